-- must: memory
local t = setmetatable({ x = 1 }, { __pairs = function() return function(_, k) return (k or "k") .. "k", 1 end end })
return require("json").encode(t)
