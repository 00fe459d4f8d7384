-- must: gas
local t = setmetatable({}, { __index = function() return "" end })
return #table.concat(t, "", 1, math.maxinteger - 1)
