-- must: error
return assert(load("return " .. string.rep("{", 1000) .. string.rep("}", 1000)))
