-- ISAAC (Jenkins, 1996): a generator of 32-bit numbers, and the letter cipher made of it.
-- The generator is one per process, as in aos: `random` and `encrypt` seed it anew, `getRandom` goes on.
-- Spelt `issac` in the library's table: that name is aos's.

local bytes = require(".crypto.bytes")

local isaac = {}

local SIZE = 256
local MASK = 0xffffffff
local GOLDEN_RATIO = 0x9e3779b9

-- The cipher works on the printable letters, from space on.
local FIRST_LETTER, LETTERS = 32, 95

local memory, results, used = {}, {}, SIZE
local a, b, c = 0, 0, 0

-- How the accumulator turns at each step of four.
local TURNS = {
  [0] = function(x) return x ~ (x << 13) end,
  function(x) return x ~ (x >> 6) end,
  function(x) return x ~ (x << 2) end,
  function(x) return x ~ (x >> 16) end,
}

-- 256 new results.
local function refill()
  c = (c + 1) & MASK
  b = (b + c) & MASK
  for i = 0, SIZE - 1 do
    local x = memory[i]
    a = ((TURNS[i % 4](a) & MASK) + memory[(i + 128) % SIZE]) & MASK
    local y = (memory[(x >> 2) % SIZE] + a + b) & MASK
    memory[i] = y
    b = (memory[(y >> 10) % SIZE] + x) & MASK
    results[i] = b
  end
  used = 0
end

local SHIFTS = { -11, 2, -8, 16, -10, 4, -8, 9 }

-- Mixes eight words in place; a negative shift goes left.
local function mix(w)
  for i = 0, 7 do
    local shift, next = SHIFTS[i + 1], w[(i + 1) % 8]
    local turned = shift < 0 and (next << -shift) & MASK or next >> shift
    w[i] = w[i] ~ turned
    local third = (i + 3) % 8
    w[third] = (w[third] + w[i]) & MASK
    w[(i + 1) % 8] = (next + w[(i + 2) % 8]) & MASK
  end
end

-- One pass over the memory: every eight words get `source`'s words mixed in (none if nil).
local function pass(w, source)
  for i = 0, SIZE - 1, 8 do
    for j = 0, 7 do w[j] = (w[j] + (source and source[i + j] or 0)) & MASK end
    mix(w)
    for j = 0, 7 do memory[i + j] = w[j] end
  end
end

-- `mixSeed` false or nil leaves the seed out, as in Jenkins's randinit(FALSE).
function isaac.seedIsaac(seed, mixSeed)
  local text = bytes.of(seed, "isaac seed")
  for i = 0, SIZE - 1 do
    memory[i] = 0
    results[i] = text:byte(i + 1) or 0
  end
  a, b, c = 0, 0, 0
  local w = {}
  for j = 0, 7 do w[j] = GOLDEN_RATIO end
  for _ = 1, 4 do mix(w) end
  pass(w, mixSeed and results or nil)
  if mixSeed then pass(w, memory) end
  refill()
end

-- The next number, 0..2^32-1.
function isaac.getRandom()
  if memory[0] == nil then isaac.seedIsaac("", true) end
  local number = results[used]
  used = used + 1
  if used == SIZE then refill() end
  return number
end

-- The code of a printable letter.
function isaac.getRandomChar() return isaac.getRandom() % LETTERS + FIRST_LETTER end

-- A number from min to max. Without a seed, math.random gives one.
function isaac.random(min, max, seed)
  min, max = min or 0, max or 2 ^ 31 - 1
  isaac.seedIsaac(seed or tostring(math.random(0, MASK)), true)
  return min + isaac.getRandom() % (max - min + 1)
end

-- Shifts each letter by a random letter's code, round the printable letters; `direction` is 1 or -1.
local function shifted(text, key, direction)
  isaac.seedIsaac(key, true)
  return (text:gsub(".", function(letter)
    local code = letter:byte() - FIRST_LETTER + direction * isaac.getRandomChar()
    return string.char(code % LETTERS + FIRST_LETTER)
  end))
end

local function letters(raw)
  local out = {}
  for letter in raw:gmatch(".") do out[#out + 1] = letter end
  return out
end

-- Only printable text comes back from decrypt: other bytes are folded onto letters.
function isaac.encrypt(message, key)
  return bytes.result(shifted(bytes.of(message, "isaac message"), key, 1), { array = letters })
end

function isaac.decrypt(cipher, key) return shifted(bytes.of(cipher, "isaac cipher text"), key, -1) end

return isaac
