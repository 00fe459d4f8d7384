-- Arrays of bytes: tables of numbers from index 1. Nothing here changes its arguments but writeToQueue.

local bytes = require(".crypto.bytes")

local array = {}

function array.size(a) return #a end

function array.fromString(s) return bytes.toArray(bytes.of(s, "array.fromString")) end

function array.toString(a) return bytes.of(a, "array.toString") end

function array.fromHex(digits) return bytes.toArray((bytes.fromHex(digits))) end

function array.toHex(a) return bytes.toHex(bytes.of(a, "array.toHex")):upper() end

function array.fromStream(stream)
  local a = {}
  for byte in stream do a[#a + 1] = byte end
  return a
end

function array.toStream(a)
  local at = 0
  return function()
    at = at + 1
    return a[at]
  end
end

-- At most `size` elements; fewer if the queue runs out.
function array.readFromQueue(queue, size)
  local a = {}
  while #a < size and queue.size() > 0 do a[#a + 1] = queue.pop() end
  return a
end

function array.writeToQueue(queue, a)
  for _, element in ipairs(a) do queue.push(element) end
end

function array.slice(a, start, stop)
  return table.move(a, math.max(start, 1), math.min(stop or #a, #a), 1, {})
end

function array.copy(a) return array.slice(a, 1) end

function array.truncate(a, size) return array.slice(a, 1, size) end

function array.concat(a, b) return table.move(b, 1, #b, #a + 1, array.copy(a)) end

function array.XOR(a, b)
  assert(#b >= #a, "array.XOR: the second array is shorter than the first")
  local out = {}
  for i, byte in ipairs(a) do out[i] = byte ~ b[i] end
  return out
end

-- out[i] = sbox[input[i]]
function array.substitute(input, sbox)
  local out = {}
  for i, byte in ipairs(input) do out[i] = sbox[byte] end
  return out
end

-- out[i] = input[pbox[i]]
function array.permute(input, pbox)
  local out = {}
  for i, from in ipairs(pbox) do out[i] = input[from] end
  return out
end

return array
