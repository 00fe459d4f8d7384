-- must: error
return assert(load("return " .. string.rep("a..", 100000) .. "a"))
