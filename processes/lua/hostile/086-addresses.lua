-- must: answer ok
-- No address is to be seen, and the numbers are the same in every run.
assert(tostring({}) == "table: 0x00000001" and tostring(print):match("^function: 0x0000000%x$"))
assert(not pcall(string.format, "%p", {}))
local t = {} local first = tostring(t) collectgarbage()
assert(tostring(t) == first)
return "ok"
