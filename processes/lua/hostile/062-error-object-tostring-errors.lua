-- must: error
error(setmetatable({}, { __tostring = function() error("inner") end }))
