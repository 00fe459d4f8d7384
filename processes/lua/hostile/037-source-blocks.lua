-- must: error
return assert(load(string.rep("do ", 10000) .. string.rep("end ", 10000)))
