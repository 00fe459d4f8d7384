-- must: error stack overflow
local json = require("json")
local t = {} for i = 1, 100000 do t = { t } end
assert(#json.encode(t) == 200002)
for i = 1, 200000 do t = { t } end
return json.encode(t)
