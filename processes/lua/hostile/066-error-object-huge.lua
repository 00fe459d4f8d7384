-- must: error
error(setmetatable({}, { __tostring = function() return string.rep("x", 1 << 30) end }))
