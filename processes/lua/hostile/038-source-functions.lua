-- must: error
return assert(load(string.rep("return function() ", 1000) .. string.rep("end ", 1000)))
