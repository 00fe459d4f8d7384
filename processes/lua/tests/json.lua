-- observed: every line's result is recorded from the real aos module (observe.mjs).
local json = require("json")
local lines = {}

local function try(label, f, ...)
  local results = table.pack(pcall(f, ...))
  for i = 1, results.n do results[i] = tostring(results[i]) end
  lines[#lines + 1] = label .. " => " .. table.concat(results, " | ")
end

-- Encoding.
local circle = {} circle.circle = circle
local shared = {}
local values = {
  { "empty", {} }, { "array", { 1, 2, 3 } }, { "nested", { a = { b = { 1, {} } } } }, { "shared", { shared, shared } },
  { "sparse", { 1, 2, [4] = 4 } }, { "no-first", { [2] = 1 } }, { "hole", { 1, nil, 3 } }, { "hole-first", { nil, 2 } },
  { "mixed", { 1, a = 2 } }, { "boolean-key", { [true] = 1 } }, { "float-key", { [1.5] = 1 } }, { "array-float-key", { 1, [1.5] = 1 } },
  { "function", print }, { "member-function", { a = print } }, { "element-function", { 1, print } }, { "key-function", { [print] = 1 } },
  { "member-function-and-more", { a = print, b = 1 } }, { "number-key-function", { [2] = print } },
  { "thread", coroutine.create(print) }, { "member-thread", { a = coroutine.create(print) } },
  { "nan", 0 / 0 }, { "infinity", math.huge }, { "minus-infinity", -math.huge },
  { "integer", 12345678901234 }, { "maxinteger", math.maxinteger }, { "mininteger", math.mininteger }, { "15-digits", 123456789012345 },
  { "float", 1.5 }, { "integral-float", 1.0 }, { "1e15", 1e15 }, { "1e14", 1e14 }, { "1e13", 1e13 }, { "1e100", 1e100 }, { "tenth", 0.1 }, { "third", 1 / 3 }, { "2^53", 2 ^ 53 }, { "minus-zero", -0.0 }, { "small", 1e-10 },
  { "string", "a\"b\\c/d\n\r\t\b\f\0\1\31\127\128\255é" }, { "key", { ["a\"\n"] = 1 } }, { "numeral", "1" }, { "true", true }, { "false", false },
  { "circle", circle },
  { "tostring", setmetatable({ 1 }, { __tostring = function() return "x" end }) },
  { "index", setmetatable({}, { __index = { 1, 2 } }) },
  { "index-more", setmetatable({ 1, 2 }, { __index = function(_, k) if k == 3 then return "three" end end }) },
  { "len", setmetatable({ 1, 2, 3 }, { __len = function() return 2 end }) },
  { "pairs", setmetatable({ a = 1 }, { __pairs = function() return next, { q = 1 }, nil end }) },
  { "pairs-of-empty", setmetatable({}, { __pairs = function() return next, { q = 1 } end }) },
}
for _, case in ipairs(values) do try("encode " .. case[1], json.encode, case[2]) end
try("encode nil", json.encode, nil)
try("encode nothing", json.encode)
lines[#lines + 1] = "encode bytes " .. json.encode("\127\128\255"):gsub(".", function(c) return string.format("%02x ", c:byte()) end)

-- Decoding: what came out, re-encoded where it is a table, and its keys.
local function describe(value)
  if type(value) ~= "table" then return (math.type(value) or type(value)) .. " " .. tostring(value) end
  local keys = {}
  for k, v in pairs(value) do keys[#keys + 1] = tostring(k) .. "=" .. tostring(type(v) == "table" and #v or v) end
  table.sort(keys)
  return "table " .. tostring(select(2, pcall(json.encode, value))) .. " {" .. table.concat(keys, ",") .. "}"
end

for _, text in ipairs({
  "", "  ", "1", "-1", "1.0", "1.5e3", "1e3", "01", "+1", ".5", "5.", "-", "--1", "0x10", "1e", "nan", "inf", "Infinity",
  "12345678901234567890", "9007199254740993", "1 2", "true", "false", "null", "nul", "truex", "True", "1e400", "-0", "-0.0", "1E5",
  "1.2.3", "1-2", "0123", "1_000", "0x", "1f", "1 x", "tru e", "1.", "1,", "1\"", "1\0", "nul\0", "\f1", "\v1", "/**/1", "\239\187\1911", "é",
  '"a"', '"a', '"a\n"', '"\\u0041"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00x"', '"\\ud83dx"', '"\\u12"', '"\\u12G4"',
  '"\\x"', '"\\/"', '"\\b\\f\\n\\r\\t\\\\\\""', '"\1"', '"\127"', '"\255\128"', '"\\u0000"', '"\\uD800\\uDC00"', '"\\uD800\\u0041"', '"\\uDFFF"',
  '"abc\\', '"\\', '"\\\0"', '"\\uu"', '"tab\there"', '"a" "b"',
  "[", "[]", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[1,2]", "[1}", "[1:2]", '["a":1]', "[1\0]", "[null,1]", "[1,null,3]", "[1]x", "[1] ]", "[x", "[1,\n x]", "[1]\0", "[ ]", "[ ", "[nul]", "[1.]", "[-]", "[é]", " \n\t\r[ 1 ,\n 2 ]\n ", "\n\n  x",
  "{", "{}", '{"a"}', '{"a":}', '{"a":1', '{"a":1,}', '{"a":1,,}', '{"a":1 "b":2}', "{a:1}", "{1:2}", '{"a":1,"a":2}', '{"a":null}', '{"a":[1,{"b":2}]}', '{"a":tru}', '{"a":1]', '{"a" : 1}', "{ }", '{"":1}', '{"a":"b"', '{"a"', '{"a" ',
}) do
  local ok, value = pcall(json.decode, text)
  lines[#lines + 1] = string.format("decode %q => %s %s", text, ok, describe(value))
end
for _, value in ipairs({ 1, true, {} }) do try("decode " .. type(value), json.decode, value) end
try("decode nil", json.decode, nil)
try("decode nothing", json.decode)
return table.concat(lines, "\n")
