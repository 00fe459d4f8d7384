-- The environment is an allow-list: these names and no others.
local function names(t)
  local all = {}
  for name in pairs(t) do all[#all + 1] = name end
  table.sort(all)
  return table.concat(all, " ")
end
local function same(t, list) assert(names(t) == list, names(t)) end

same(_G, "_G _VERSION assert bit32 collectgarbage coroutine debug error getmetatable handle ipairs load math next os package pairs pcall print rawequal rawget rawlen rawset require select setmetatable string table tonumber tostring type utf8 xpcall")
same(string, "byte char find format gmatch gsub len lower match pack packsize rep reverse sub unpack upper")
same(table, "concat insert move pack remove sort unpack")
same(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max maxinteger min mininteger modf pi pow rad random randomseed sin sinh sqrt tan tanh tointeger type ult")
same(os, "clock date difftime getenv time")
same(coroutine, "create isyieldable resume running status wrap yield")
same(utf8, "char charpattern codepoint codes len offset")
same(bit32, "arshift band bnot bor btest bxor extract lrotate lshift replace rrotate rshift")
same(debug, "getinfo getlocal getupvalue traceback")
same(package, "loaded preload")
same(package.loaded, ".base64 .bint _G base64 bint bit32 coroutine debug json math os package string table utf8 weft")
same(require("json"), "_version decode encode")
same(require(".base64"), "decode encode makedecoder makeencoder")
assert(_VERSION == "Lua 5.3" and require("bint") == require(".bint") and require("base64") == require(".base64"))
assert(print("x", {}) == nil and require("bint")(256) == require(".bint")(256))

-- require: loaded, then preload.
package.preload.there = function(name, extra) return { name, extra } end
assert(require("there")[1] == "there" and require("there") == package.loaded.there)
package.preload.nothing = function() end
assert(require("nothing") == true)
local ok, why = pcall(require, "absent")
assert(not ok and why:find("module 'absent' not found", 1, true))

-- Numbers as text.
local function text(value, expected) assert(tostring(value) == expected, tostring(value)) end
text(0 / 0, "-nan") text(-(0 / 0), "-nan") text(math.huge, "inf") text(-math.huge, "-inf") text(-0.0, "-0.0") text(3.0, "3.0") text(1e15, "1e+15")
text(99999999999999.0, "99999999999999.0") text(100000000000000.0, "1e+14") text(123456.789, "123456.789") text(2 ^ 63, "9.2233720368548e+18") text(math.mininteger, "-9223372036854775808")
text(0.1 + 0.2, "0.3") text(1e-5, "1e-05") text(5e-324, "4.9406564584125e-324") text(1.7976931348623157e308, "1.7976931348623e+308") text(-1e14 + 0.5, "-1e+14")
assert(string.format("%f %g %e %a %5.1f|%-8d|%05d|%x", 0 / 0, 0 / 0, 1 / 0, 1.0, 2.25, 7, 42, 255) == "-nan -nan inf 0x1p+0   2.2|7       |00042|ff")
assert(string.pack("<d", 0 / 0) == string.pack("<d", -(0 / 0)) and string.format("%q", 1 / 3) == "0x1.5555555555555p-2")
assert(tonumber("0x.8p1") == 1.0 and tonumber("1e1") == 10.0 and tonumber("  12  ") == 12 and tonumber("1 2") == nil and tonumber("z", 36) == 35 and tonumber("9223372036854775808") == 2 ^ 63)
assert(math.type(3) == "integer" and 7 // 2 == 3 and -7 // 2 == -4 and 7 % -3 == -2 and 2 ^ 0.5 == math.sqrt(2) and 1 // 0.0 == math.huge)
math.randomseed(42) local first = math.random(1 << 30)
require("weft").seed(42) assert(math.random(1 << 30) == first)

-- Identities.
local t, f = {}, function() end
assert(tostring(t) ~= tostring({}) and tostring(t) == tostring(t) and tostring(t):match("^table: 0x%x%x%x%x%x%x%x%x$") and tostring(f):match("^function: 0x") and tostring(coroutine.create(f)):match("^thread: 0x"))
assert(tostring(setmetatable({}, { __name = "My" })):match("^My: 0x") and string.format("%s", t) == tostring(t))
local function kib_after(rounds)
  for _ = 1, rounds do tostring({}) end
  collectgarbage()
  return collectgarbage("count")
end
local once = kib_after(50000)
assert(kib_after(200000) < once + 128, "identities are forgotten with their objects")

-- Natives.
local weft = require("weft")
same(weft, "ask cipher digest hex lines lines_of lines_take now seed unhex")
assert(weft.hex(weft.digest("sha2_256", "abc")):sub(1, 8) == "ba7816bf")
assert(weft.hex("\0\255az") == "00ff617a" and weft.unhex("00fF617A") == "\0\255az" and weft.unhex("0") == nil and weft.unhex("0g") == nil and weft.hex("") == "" and weft.unhex("") == "")
return "ok"
