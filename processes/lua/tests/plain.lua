-- native: every line's result is recorded from stock Lua 5.3.6 on 64-bit Linux (native.mjs).
local lines = {}
local function put(...) local t = table.pack(...) for i = 1, t.n do t[i] = tostring(t[i]) end lines[#lines + 1] = table.concat(t, " ") end
local function try(label, f, ...)
  local t = table.pack(pcall(f, ...))
  for i = 1, t.n do t[i] = tostring(t[i]):gsub("^[^ ]*:%d+: ", "") end
  lines[#lines + 1] = label .. " " .. table.concat(t, " ")
end

local state = 5309
local function random(n) state = (state * 1103515245 + 12345) % 2147483648 return state // 65536 % n end
local function bits() local v = 0 for _ = 1, 4 do v = v << 16 | random(32768) << 1 | random(2) end return v end
local function double()
  local v
  repeat v = string.unpack("d", string.pack("i8", random(3) == 0 and bits() or bits() & ~(0x7ff << 52) | (1000 + random(60)) << 52)) until v == v
  return v
end

for _ = 1, 1500 do
  local v = double()
  put("float", v, string.format("%.17g|%.3f|%e|%g|%a|%10.4g|%-12.2e|%+.0f|%#x", v, v % 1e15, v, v, v, v, v, v % 1e6, bits() & 0xffff))
  put("parse", tonumber(string.format("%.17g", v)) == v, tonumber(string.format("%a", v)) == v, tonumber(string.format("%.9f", v % 1e6)))
end
for _ = 1, 1500 do
  local a, b = bits() >> random(63), bits() >> random(63)
  if random(2) == 0 then a = -a end
  if random(2) == 0 then b = -b end
  try("integer", function() return a + b, a - b, a * b, a & b, a | b, a ~ b, ~a, a << (b & 127) - 64, a >> (b & 63), a < b, a == b, math.ult(a, b), a / 1.0, string.format("%d %5d %-8x %o %X %i %u", a, b, a, b, a, b, a & 0xff) end)
  try("divide", function() return a // b, a % b, a / b, math.fmod(a, b), a // (b / 1.0), a % (b / 1.0) end)
end
for _, v in ipairs({ 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2 ^ 53, 2 ^ 63, -2 ^ 63, 1e308, 5e-324, math.huge, -math.huge, 1e15, 1e14, 123456789012345.0, 3.14159 }) do
  try("math", function() return math.floor(v), math.ceil(v), math.modf(v), math.abs(v), math.tointeger(v), math.type(v), v // 1, v % 1, -v, v == v, math.frexp(v) end)
  for _, name in ipairs({ "sqrt", "exp", "log", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "log10", "deg", "rad" }) do
    local r = math[name](v)
    put("libm", name, v, r ~= r and "nan" or string.format("%.12g", r))
  end
end
for _, text in ipairs({ "0x", "0x.8", "0x8.", "0xA.8p3", "1e", "1e+", "1e5", ".5", "5.", ".", "0x1p", "1_0", "  7  ", "7 7", "1e400", "-1e400", "0x1p-1080", "1e-400", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "0xffffffffffffffff", "0x1ffffffffffffffff", "inf", "nan", "0b1", "1f", "", " ", "- 1", "+1", "--1" }) do
  put("tonumber", text, tonumber(text), tonumber(text, 16), tonumber(text, 10), tonumber(text, 36))
  try("coerce", function() return text + 0, text * 1, text .. 1 end)
end

-- Strings and patterns.
local alphabet = { "a", "b", "c", " ", "%", ".", "(", ")", "[", "]", "-", "^", "$", "1", "\0", "é" }
local atoms = { "a", "b", ".", "%a", "%d", "%s", "%w", "%p", "%A", "[ab]", "[^a]", "[a-c1]", "%b()", "(a)", "()", "(.)", "%f[%w]", "%%", "%1", "^", "$", "(", ")", "[", "%" }
local suffixes = { "", "", "*", "+", "-", "?" }
for _ = 1, 3000 do
  local subject, pattern = {}, {}
  for i = 1, random(12) do subject[i] = alphabet[1 + random(#alphabet)] end
  for i = 1, 1 + random(4) do pattern[i] = atoms[1 + random(#atoms)] .. suffixes[1 + random(#suffixes)] end
  subject, pattern = table.concat(subject), table.concat(pattern)
  try("find", string.find, subject, pattern, random(4) - 1)
  try("match", string.match, subject, pattern)
  try("gsub", string.gsub, subject, pattern, "<%0>", random(3) > 0 and 10 or nil)
end
for _ = 1, 300 do
  local s = string.rep("abc\0é", random(5)) .. random(1000)
  try("sub", function() local i, j = random(12) - 6, random(12) - 6 return s:sub(i, j), s:byte(i, j), s:upper(), s:reverse(), #s, s:rep(random(3), ",") end)
  try("quote", function() return string.format("%q %s %-20s %.3s %c", s, s:gsub("%z", ""), "x", "abcdef", 65) end)
  try("utf8", function() return utf8.len(s), utf8.offset(s, 3), utf8.codepoint(s, 1, 2), utf8.char(233, 8364, 128512 + random(100)) end)
end
local formats = { "b", "B", "h", "H", "i", "I", "j", "J", "i3", "I5", "i16", "f", "d", "n", "z", "s1", "x", "!4 i8", "<i4", ">i4", "=i4", "c5" }
for _ = 1, 600 do
  local format = formats[1 + random(#formats)]
  local value = format:find("[szc]") and string.rep("x", random(7)) or format:find("[fdn]") and double() or bits() >> random(60)
  try("pack", function() local p = string.pack(format, value) return p:gsub(".", function(c) return string.format("%02x", c:byte()) end), string.unpack(format, p) end)
end

-- Tables, closures, coroutines, goto, errors.
for round = 1, 60 do
  local t = {}
  for i = 1, random(200) do t[i] = random(100) end
  table.sort(t, round % 2 == 0 and function(a, b) return a > b end or nil)
  put("sort", table.concat(t, ","))
  local u = table.move(t, 1, #t, 3, {})
  put("table", #table.pack(table.unpack(t, 1, math.min(#t, 20))), table.remove(t, 1), table.remove(t), select("#", table.unpack(t)), u[3], pcall(table.insert, t, random(10), 1, 2))
end
local function generator(n) return coroutine.wrap(function() for i = 1, n do local got = coroutine.yield(i) if got then n = got end end return "end" end) end
local g = generator(5) put("coroutine", g(), g(), g(), g(), g(), g(), pcall(g))
for i = 1, 3 do for j = 1, 3 do if j == 2 then goto continue end put("goto", i, j) ::continue:: end end
for _, source in ipairs({
  "local x <const> = 1", "return 1 +", "x = = 1", "for i = 1 do end", "goto nowhere", "break", "local function f( end", "return 'a", "return [[a", "x = 'a\\q'", "return 0x", "return 1..2", "::a:: ::a::", "return ...", "local t = {1, 2; 3, a = 4, [5] = 6,} return #t",
  "return (function(...) return select('#', ...) end)(1, nil, nil)", "return 2^3^2, -2^2, not nil == true, 1 .. 2 .. 3, 'a' < 'b', 7 // -2, 7 % -2, -7 // 2.0", "local a, b, c = (function() return 1, 2, 3 end)() return a, b, c", "return #'\\u{1F600}\\x41\\065\\z   b'",
  "return nil .. 'a'", "return {} + 1", "return 'a' + 1", "return nil < 1", "return {} < {}", "local a return a.b.c", "return undefined.field", "undefined()", "return ('x'):nope()", "return #5", "return 1 & 1.5", "return 2^53 | 0", "return 1 < 'x'", "return math.huge | 0", "error(true)", "error('x', 0)", "error('x', 2)", "error()", "return 1 // 0", "return 1 % 0", "local t = setmetatable({}, {__index = function(t, k) return k end}) return t.x, t[1]", "return string.rep", "for i = 1, 10, 0 do end", "for i = 'a', 2 do end", "return table.concat({1, {}, 3})", "return setmetatable(1, {})", "return rawset(1, 2, 3)", "return ipairs()", "local t = {} t[nil] = 1", "local t = {} t[0/0] = 1", "return tostring()", "return ('%d'):format('x')", "return ('%d'):format(1.5)", "return ('%y'):format(1)", "return string.char(256)", "return math.random(0)", "return select(0)", "return utf8.char(-1)", "return load('return 1', 'n', 'b')", "return next({}, 1)", "return coroutine.resume(coroutine.create(1))",
}) do
  try("chunk", function() local f = assert(load(source, "=chunk")) local r = table.pack(f()) for i = 1, r.n do if type(r[i]) == "table" or type(r[i]) == "function" or type(r[i]) == "thread" then r[i] = type(r[i]) end end return table.unpack(r, 1, r.n) end)
end

-- Dates.
for _ = 1, 400 do
  local seconds = (bits() >> 28) - (1 << 34)
  put("date", os.date("!%a %A %b %B %c %C %d %D %e %F %g %G %h %H %I %j %m %M %p %r %R %S %T %u %U %V %w %W %x %X %y %Y", seconds))
  local t = os.date("!*t", seconds)
  put("time", t.year, t.yday, t.wday, os.time({ year = t.year, month = t.month + random(30) - 15, day = t.day + random(100) - 50, hour = t.hour, min = t.min + random(200) - 100, sec = t.sec + random(1000) }))
end

-- Metamethods and the collector.
local log = {}
local mt = {} for _, name in ipairs({ "add", "sub", "mul", "div", "mod", "pow", "unm", "idiv", "band", "bor", "bxor", "shl", "shr", "bnot", "concat", "len", "eq", "lt", "le", "call" }) do mt["__" .. name] = function(a, b) log[#log + 1] = name return 1 end end
local x, y = setmetatable({}, mt), setmetatable({}, mt)
local _ = x + 1, 1 - x, x * y, x / 2, x % 2, x ^ 2, -x, x // 1, x & 1, 1 | x, x ~ y, x << 1, 1 >> x, ~x, x .. "a", "a" .. x, #x, x == y, x ~= y, x < y, x <= y, x > 1, 1 >= x, x(1)
put("metamethods", table.concat(log, " "))
local weak = setmetatable({}, { __mode = "k" }) for i = 1, 100 do weak[{}] = i end collectgarbage() put("weak", next(weak))
put("compat", math.pow(2, 10), math.cosh(0), math.ldexp(1, 4), math.log10(1000), bit32.band(12, 10), bit32.rrotate(1, 1), bit32.extract(255, 4, 2), bit32.arshift(-8, 1), table.unpack({ 1, 2 }))
math.randomseed(7)
return (table.concat(lines, "\n"):gsub("[\128-\255]", function(c) return string.format("\\%d", c:byte()) end))
