-- must: gas
local t = setmetatable({}, { __len = function() return math.maxinteger - 1 end })
return table.remove(t, 1)
