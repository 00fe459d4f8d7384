-- must: error
return assert(load("return " .. string.rep("(", 10000) .. "1" .. string.rep(")", 10000)))
