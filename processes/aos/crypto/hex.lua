-- Strings to hex digits and back.

local bytes = require(".crypto.bytes")

local hex = {}

-- `perLine` breaks the digits into lines of that many bytes, then `between` (a string) parts the bytes.
function hex.stringToHex(s, perLine, between)
  local digits = bytes.toHex(bytes.of(s, "hex.stringToHex"))
  if not perLine then return digits end
  assert(perLine >= 1, "hex.stringToHex: a line has at least one byte")
  local out, count = {}, #digits // 2
  for i = 1, count do
    out[#out + 1] = digits:sub(2 * i - 1, 2 * i)
    if i < count then out[#out + 1] = i % perLine == 0 and "\n" or between or "" end
  end
  return table.concat(out)
end

-- Drops white space and wants pairs of letters and digits, unless `unsafe`; what is not hex passes as it is.
function hex.hexToString(digits, unsafe)
  digits = tostring(digits)
  if not unsafe then
    digits = digits:gsub("%s+", "")
    if #digits % 2 ~= 0 or digits:find("%W") then error("invalid hex string") end
  end
  return (digits:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

return hex
