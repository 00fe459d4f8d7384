-- must: error
return table.insert(setmetatable({}, { __len = function() return "x" end }), 1)
