-- Bytes in the forms the library takes and gives: a string, a stream (a function that gives the next byte
-- or nil) and an array of numbers. Inside, everything is a string.
-- Not an API of aos: `of` is why every function here takes all three forms.

local native = require("weft")

local bytes = {}

-- string.char and string.byte take their values on the stack: this many at once.
local PIECE = 1024

local function fromArray(array)
  local pieces = {}
  for first = 1, #array, PIECE do
    pieces[#pieces + 1] = string.char(table.unpack(array, first, math.min(first + PIECE - 1, #array)))
  end
  return table.concat(pieces)
end

-- What is left of a stream made by bytes.stream, taken at once instead of byte by byte.
local rests = setmetatable({}, { __mode = "k" })

function bytes.stream(text)
  local at = 0
  local function stream()
    at = at + 1
    return (text:byte(at))
  end
  rests[stream] = function()
    local rest = text:sub(at + 1)
    at = #text
    return rest
  end
  return stream
end

local function fromStream(stream)
  if rests[stream] then return rests[stream]() end
  local array = {}
  for byte in stream do array[#array + 1] = byte end
  return fromArray(array)
end

-- The string of bytes that `value` holds. `what` names the argument in the error.
function bytes.of(value, what)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "function" then return fromStream(value) end
  if kind == "table" then return fromArray(value) end
  error(what .. ": expected a string, a stream or an array of bytes, got " .. kind, 3)
end

function bytes.toArray(raw)
  local array = {}
  for first = 1, #raw, PIECE do
    local piece = { raw:byte(first, first + PIECE - 1) }
    table.move(piece, 1, #piece, first, array)
  end
  return array
end

-- Small letters.
bytes.toHex = native.hex

-- The bytes of hex digits in either case; stops ahead of the first pair that is not hex.
function bytes.fromHex(digits)
  if type(digits) == "number" then digits = tostring(digits) end
  if type(digits) ~= "string" then error("fromHex: expected hex digits, got " .. type(digits), 3) end
  local run = #digits:match("^%x*")
  local good = run - run % 2
  return (digits:sub(1, good):gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)), good
end

-- Adds asBytes, asHex and asString to `result`. `value` gives the raw string; `form` may hold
-- `upper` (hex digits in capitals) and `array` (what asBytes gives, from the raw string).
function bytes.answer(result, value, form)
  form = form or {}
  function result.asString() return value() end
  function result.asHex()
    local digits = bytes.toHex(value())
    return form.upper and digits:upper() or digits
  end
  function result.asBytes() return (form.array or bytes.toArray)(value()) end
  return result
end

-- A result that is known already.
function bytes.result(raw, form)
  return bytes.answer({}, function() return raw end, form)
end

return bytes
