-- observed: every line's result is recorded from the real aos module (observe.mjs).
-- The table of edge values against every function, then seeded random numbers of several widths.
local module = require(".bint")
local bint = module(256)
local lines = {}

local function show(v)
  if type(v) == "table" then
    local words = {}
    for i = 1, #v do words[i] = string.format("%x", v[i]) end
    return "[" .. table.concat(words, " ") .. "]"
  end
  if type(v) == "number" then return math.type(v) .. " " .. (v ~= v and "nan" or tostring(v)) end
  return string.format("%q", tostring(v))
end

local function try(label, f, ...)
  local results = table.pack(pcall(f, ...))
  for i = 1, results.n do results[i] = show(results[i]) end
  lines[#lines + 1] = label .. " => " .. table.concat(results, " | ")
end

-- Classes.
for _, shape in ipairs({ { 10 }, { 64 }, { 0 }, { 48 }, { 33 }, { -64 }, { 64, 16 }, { 64, 64 }, { 64, 1 }, { 20, 5 }, { 96 } }) do
  try("class " .. shape[1] .. " " .. tostring(shape[2]), function() return module(shape[1], shape[2]).maxinteger() end)
end
lines[#lines + 1] = "class same " .. tostring(module(256) == bint) .. tostring(module() == bint) .. tostring(module(128) == bint)
lines[#lines + 1] = "class parts " .. type(module) .. " " .. type(bint) .. " " .. type(bint(1)) .. " " .. #bint(1) .. " " .. bint.bits .. " " .. tostring(getmetatable(bint(1)) == bint)
for _, name in ipairs({ "zero", "one", "mininteger", "maxinteger" }) do try("make " .. name, bint[name]) end

-- Functions of one value.
local least, greatest = bint.mininteger(), bint.maxinteger()
local digits = "123456789012345678901234567890"
local any = {
  0, 1, -1, 255, -255, 2 ^ 53, 1.5, -1.5, 2.0, 1e15, 1e19, -1e19, 2 ^ 63, -2 ^ 63, math.maxinteger, math.mininteger, math.huge, "0", "1", "-1", "+5", "12a", "0x10", "-0x10",
  "0b101", "0B11", "", " 1", "1 ", "--1", "1.5", "1e3", "1.0", string.rep("9", 86), "0x" .. string.rep("f", 67), "abc", "0xZZ", "0x", "-", "+", "inf", "nan", "1_000", "-0", "00012",
  digits, tostring(greatest), tostring(least), true, {}, print, bint(0), bint(1), bint(-1), bint(digits), least, greatest, module(128)(5),
}
local function name_of(v)
  if type(v) == "table" then return getmetatable(v) == bint and "bint " .. tostring(v) or getmetatable(v) and "bint128" or "{}" end
  return type(v) == "function" and "function" or type(v) .. " " .. tostring(v)
end
for _, name in ipairs({
  "fromuinteger", "frominteger", "fromstring", "frombase", "new", "tobint", "parse", "tointeger", "tonumber", "touinteger", "iszero", "isone", "isminusone", "isbint",
  "isintegral", "isnumeric", "type", "iseven", "isodd", "isneg", "ispos", "abs", "inc", "dec", "ceil", "floor", "trunc", "tobase", "tole", "tobe",
}) do
  for _, v in ipairs(any) do
    -- Of a function, `new` answers the function itself.
    if not (name == "new" and (type(v) == "function" or name_of(v) == "{}")) then try(name .. " " .. name_of(v), bint[name], v) end
  end
end

-- Bases and bytes.
for _, text in ipairs({ " 1", "1 ", "--1", "+5", "1_000", "12-3", "-", "", "1 2", "zz", "ZZ", "0x10", "ffffffffffff", "12345678901234567890123 4", "-ff", " -5", "- 5", "1\n" }) do
  for _, base in ipairs({ 10, 16, 36, 2 }) do try("frombase " .. text .. " " .. base, bint.frombase, text, base) end
end
for _, base in ipairs({ 37, 1, 0, -1, 36 }) do
  try("frombase in " .. base, bint.frombase, string.rep("1z", 30), base)
  try("tobase in " .. base, bint.tobase, digits, base)
end
for _, v in ipairs({ 0, 1, -1, 255, -255, greatest, least, "12345678901234567890", 1.5, "x" }) do
  for _, base in ipairs({ 10, 16, 2, 36, 7 }) do
    try("tobase " .. tostring(v) .. " " .. base, bint.tobase, v, base)
    try("tobase unsigned " .. tostring(v) .. " " .. base, bint.tobase, v, base, true)
    try("tobase signed " .. tostring(v) .. " " .. base, bint.tobase, v, base, false)
  end
  try("tole trimmed " .. tostring(v), bint.tole, v, true)
  try("tobe trimmed " .. tostring(v), bint.tobe, v, true)
end
local count = {} for i = 1, 40 do count[i] = string.char(i) end
for length = 0, 40 do
  try("fromle " .. length, bint.fromle, table.concat(count, "", 1, length))
  try("frombe " .. length, bint.frombe, table.concat(count, "", 1, length))
end
for _, v in ipairs({ 1, true }) do try("fromle " .. tostring(v), bint.fromle, v) try("frombe " .. tostring(v), bint.frombe, v) end

-- Operators and functions of two values.
local operators = {
  add = function(a, b) return a + b end, sub = function(a, b) return a - b end, mul = function(a, b) return a * b end,
  idiv = function(a, b) return a // b end, div = function(a, b) return a / b end, mod = function(a, b) return a % b end, pow = function(a, b) return a ^ b end,
  shl = function(a, b) return a << b end, shr = function(a, b) return a >> b end, band = function(a, b) return a & b end, bor = function(a, b) return a | b end, bxor = function(a, b) return a ~ b end,
  eq = function(a, b) return a == b end, lt = function(a, b) return a < b end, le = function(a, b) return a <= b end,
}
local order = { "add", "sub", "mul", "idiv", "div", "mod", "pow", "shl", "shr", "band", "bor", "bxor", "eq", "lt", "le" }
local operands = { 0, 1, -1, 3, -3, 2 ^ 53, 1.5, "5", "-5", "x", "1e2", 1e19, math.mininteger, bint(0), bint(1), bint(-1), bint(3), bint(-3), greatest, least, bint("98765432109876543210"), module(128)(5) }
for _, name in ipairs(order) do
  for _, x in ipairs({ bint(0), bint(1), bint(-1), bint(7), bint(-7), greatest, least, bint(digits) }) do
    for _, y in ipairs(operands) do
      try(name .. " " .. tostring(x) .. " " .. name_of(y), operators[name], x, y)
      try(name .. " " .. name_of(y) .. " " .. tostring(x), operators[name], y, x)
    end
  end
end
local some = { 0, 1, -1, 7, -7, greatest, least, digits, 1.5, "x" }
for _, name in ipairs({ "udivmod", "udiv", "umod", "tdivmod", "tdiv", "tmod", "idivmod", "ipow", "eq", "ult", "ule", "max", "min" }) do
  for _, x in ipairs(some) do
    for _, y in ipairs(some) do try(name .. " " .. name_of(x) .. " " .. name_of(y), bint[name], x, y) end
  end
end
for _, x in ipairs(some) do
  for _, y in ipairs(some) do
    try("upowmod " .. name_of(x) .. " " .. name_of(y) .. " 97", bint.upowmod, x, y, 97)
    try("upowmod 3 " .. name_of(x) .. " " .. name_of(y), bint.upowmod, 3, x, y)
  end
end
for _, name in ipairs({ "brol", "bror" }) do
  for _, x in ipairs({ 1, -2, greatest, least, "77" }) do
    for _, y in ipairs({ 0, 1, -1, 31, 32, 33, 255, 256, 257, -300, 1000, 1.5, "3", "x", bint(5) }) do try(name .. " " .. name_of(x) .. " " .. name_of(y), bint[name], x, y) end
  end
end
for _, x in ipairs({ 1, -2, greatest, least, "77", 1.5 }) do
  for _, y in ipairs({ 0, 1, -1, 8, 31, 32, 33, 64, 255, 256, 300, 1.5, "3", bint(5) }) do try("bwrap " .. name_of(x) .. " " .. name_of(y), bint.bwrap, x, y) end
end

-- In place, and methods.
for _, name in ipairs({ "_add", "_sub", "_band", "_bor", "_bxor", "_assign" }) do
  for i = 1, 8 do
    for _, y in ipairs(some) do
      local x = bint(some[i])
      try(name .. " " .. name_of(x) .. " " .. name_of(y), function() local r = bint[name](x, y) return r, rawequal(r, x) end)
    end
  end
end
for _, name in ipairs({ "_abs", "_unm", "_inc", "_dec", "_bnot", "_shlone", "_shrone" }) do
  for i = 1, 8 do
    local x = bint(some[i])
    try(name .. " " .. name_of(x), function() local r = bint[name](x) return r, rawequal(r, x) end)
  end
end
for _, words in ipairs({ 0, 1, 2, 7, 8 }) do
  for _, name in ipairs({ "_shlwords", "_shrwords" }) do
    local x = bint("0x0102030405060708090a0b0c0d0e0f101112131415161718")
    try(name .. " " .. words, function() return bint[name](x, words) end)
  end
end
for i = 1, 8 do
  local x = bint(some[i])
  try("unm", function() return -x end)
  try("bnot", function() return ~x end)
  try("tostring", tostring, x)
  try("method", function() return x:abs(), x:tobase(16), x:isneg() end)
  try("same", function() return rawequal(bint.new(x), x), rawequal(bint.tobint(x), x), rawequal(bint.tobint(x, true), x), rawequal(bint.parse(x), x) end)
end
try("json", require("json").encode, bint(-5))

-- Random numbers of many lengths.
local state = 20261122
local function random(n) state = (state * 1103515245 + 12345) % 2147483648 return state // 65536 % n end
local function number(class)
  local text = {}
  for i = 1, 1 + random(class.bits // 4 + 4) do text[i] = string.format("%x", random(4) == 0 and random(2) * 15 or random(16)) end
  return class.fromstring((random(2) == 0 and "-" or "") .. "0x" .. table.concat(text))
end
for _, shape in ipairs({ { 64 }, { 96 }, { 128 }, { 256 }, { 512 }, { 128, 16 }, { 72, 8 }, { 120, 24 } }) do
  local class = module(shape[1], shape[2])
  local group = "random" .. shape[1] .. "/" .. tostring(shape[2]) .. " "
  for round = 1, 60 do
    local x, y = number(class), number(class)
    for _, name in ipairs(order) do if name ~= "shl" and name ~= "shr" then try(group .. round .. name, operators[name], x, y) end end
    for _, name in ipairs({ "udivmod", "tdivmod", "idivmod", "ult", "max" }) do try(group .. round .. name, class[name], x, y) end
    local places = random(shape[1] + 4) - 2
    try(group .. round .. "shift", function() return x << places, x >> places, class.brol(x, places), class.bwrap(x, places) end)
    try(group .. round .. "text", function() return tostring(x), class.tobase(x, 2 + random(35), true), class.tonumber(x), class.tointeger(x), x:tole(), class.frombe(x:tobe()) == nil end)
    if round % 10 == 0 then try(group .. round .. "power", function() return class.ipow(x, y), class.upowmod(x, y, number(class)) end) end
  end
end
return table.concat(lines, "\n")
