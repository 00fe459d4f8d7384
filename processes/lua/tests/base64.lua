-- observed: every line's result is recorded from the real aos module (observe.mjs).
local base64 = require(".base64")
local lines = {}

local function try(label, f, ...)
  local results = table.pack(pcall(f, ...))
  for i = 1, results.n do results[i] = string.format("%q", tostring(results[i])) end
  lines[#lines + 1] = label .. " => " .. table.concat(results, " | ")
end

for _, text in ipairs({ "", "f", "fo", "foo", "foob", "fooba", "foobar", "\0\255\1", ">>>???" }) do try("encode " .. #text, base64.encode, text) end
for _, text in ipairs({
  "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9", "Z", "Zg", "Zg=", "Zm9v\nYmFy", "Zm 9v", "Zm9v====", "Zg==Zg==", "!!!!", "Pj4+Pz8/",
  "Pj4-Pz8_", "Zm9vYmFyYg===", "====", "=", "AAA=AAAA", "é", "Zm9vY", "Zm9v.Zm",
}) do try("decode " .. text, base64.decode, text) end

local encoder, decoder = base64.makeencoder("-", "_"), base64.makedecoder("-", "_")
try("encode url", base64.encode, ">>>???a", encoder)
for _, text in ipairs({ "Pj4-Pz8_YQ==", "Pj4-Pz8_YQ..", "Pj4+Pz8/YQ==" }) do try("decode url " .. text, base64.decode, text, decoder) end
try("encode dots", base64.encode, "a", base64.makeencoder("-", "_", "."))
try("decode dots", base64.decode, "YQ..", base64.makedecoder("-", "_", "."))
try("encode cached", base64.encode, "foofoobar", nil, true)
try("decode cached", base64.decode, "Zm9vZm9vYmFy", nil, true)
try("encode with nothing", base64.encode, "foo", {})
try("decode with nothing", base64.decode, "Zm9v", {})
for _, value in ipairs({ 12, true }) do
  try("encode " .. type(value), base64.encode, value)
  try("decode " .. type(value), base64.decode, value)
end
for code = 0, 64 do lines[#lines + 1] = "tables " .. code .. " " .. encoder[code] .. " " .. decoder[encoder[code]] end
local text = string.rep("abc", 3000) .. "d"
lines[#lines + 1] = "long " .. tostring(base64.decode(base64.encode(text)) == text)
return table.concat(lines, "\n")
