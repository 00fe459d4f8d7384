-- must: answer ok
local bint = require(".bint")(4096)
local x = bint.ipow(3, bint.maxinteger())
return tostring(x):len() > 100 and "ok"
