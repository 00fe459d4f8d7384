-- must: error stack overflow
local t = {} for i = 1, 100000 do t = { t } end
return require("json").encode(t)
