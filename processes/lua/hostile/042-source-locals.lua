-- must: error too many local variables
local t = {} for i = 1, 300 do t[i] = "local a" .. i end
return assert(load(table.concat(t, "\n")))
