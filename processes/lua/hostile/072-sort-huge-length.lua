-- must: error
return table.sort(setmetatable({}, { __len = function() return math.maxinteger end }))
