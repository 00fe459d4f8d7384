-- must: error
error(setmetatable({}, { __name = string.rep("n", 100000) }))
