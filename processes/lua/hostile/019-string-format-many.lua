-- must: answer 20200
local ones = setmetatable({}, { __index = function() return 1 end })
return tostring(#string.format(string.rep("%99.99f", 200), table.unpack(ones, 1, 200)))
