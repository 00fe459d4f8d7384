-- must: error
local names = {} for i = 1, 199 do names[i] = "a" .. i end
local more = {} for i = 1, 100 do more[i] = "b" .. i end
return assert(load("local " .. table.concat(names, ",") .. " return function() local " .. table.concat(more, ",") .. " return function() return " .. table.concat(names, "+") .. "+" .. table.concat(more, "+") .. " end end"))
