-- The recorder of executed lines.
local weft = require("weft")
local source = [[
local function used(x)
  if x then
    return 1
  end
  return 2
end

local function unused()
  return 3
end

for i = 1, 3 do used(i) end
local co = coroutine.wrap(function()
  coroutine.yield()
  return 4
end)
co() co()
return used
]]
local lines = weft.lines_of(source, "@sample")
assert(table.concat(lines, " ") == "2 3 5 6 9 10 12 13 14 15 16 17 18", table.concat(lines, " "))
local missing, why = weft.lines_of("x = ", "@broken")
assert(missing == nil and why:find("broken:1:", 1, true))

weft.lines(true)
load(source, "@sample")()
weft.lines(false)
local taken = weft.lines_take()
local counts = {}
for line, times in pairs(taken["@sample"]) do counts[#counts + 1] = string.format("%02d:%d", line, times) end
table.sort(counts)
assert(table.concat(counts, " ") == "02:3 03:3 06:1 10:1 12:4 13:2 14:1 15:1 16:1 17:1 18:1", table.concat(counts, " "))

-- A coroutine that was made before, and one that is suspended when recording starts.
local step = coroutine.wrap(load("coroutine.yield()\nlocal x = 1\nreturn x", "@early"))
step()
weft.lines(true)
step()
weft.lines(false)
taken = weft.lines_take()
assert(taken["@early"][2] == 1 and taken["@early"][3] == 1 and taken["@sample"] == nil)
load(source, "@sample")()
assert(next(weft.lines_take()) == nil, "off is off")
return "ok"
