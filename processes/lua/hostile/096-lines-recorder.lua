-- must: answer ok
-- The recorder of executed lines is for tests; a process that turns it on only slows itself.
local weft = require("weft")
weft.lines(true) for i = 1, 100 do local x = i end
weft.lines(false)
local taken = weft.lines_take()
assert(next(taken) ~= nil and next(weft.lines_take()) == nil)
return "ok"
