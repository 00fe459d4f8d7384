-- must: error circular reference
local t = {} t[1] = t return require("json").encode(t)
