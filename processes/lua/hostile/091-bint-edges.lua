-- must: answer ok
local bint = require(".bint")(256)
assert(not pcall(function() return bint(1) // 0 end) and not pcall(function() return bint(1) % bint(0) end))
assert(bint.mininteger() // -1 == bint.mininteger() and tostring(-bint.mininteger()) == tostring(bint.mininteger()))
assert(not pcall(bint, "x") and not pcall(bint, 1.5) and bint.tobint(string.rep("9", 10000)))
local broken = bint(1) broken[1] = "x" broken[2] = {} broken[3] = nil
tostring(broken + 1) tostring(broken) bint.tobase(broken, 2)
assert(not pcall(require(".bint"), 1 << 40) and not pcall(require(".bint"), -1))
return "ok"
