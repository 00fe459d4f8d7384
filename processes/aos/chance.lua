--- Repeatable random numbers: the Mersenne twister MT19937 of 32 bits (Matsumoto and Nishimura, 1998).
-- Not for secrets: whoever knows the seed knows every number. `math.random` of a process is made of it.

local chance = {}

local SIZE, SHIFT = 624, 397
local UPPER, LOWER, WORD = 0x80000000, 0x7fffffff, 0xffffffff
local TWIST = 0x9908b0df

local state, position = {}, SIZE + 1

--- Starts over from an integer; its lowest 32 bits count.
function chance.seed(s)
  local word = s & WORD
  state[1] = word
  for index = 1, SIZE - 1 do
    word = (1812433253 * (word ~ (word >> 30)) + index) & WORD
    state[index + 1] = word
  end
  position = SIZE + 1
end

local function twist(index, next_index, far_index)
  local word = (state[index] & UPPER) | (state[next_index] & LOWER)
  local twisted = state[far_index] ~ (word >> 1)
  if word & 1 == 1 then
    twisted = twisted ~ TWIST
  end
  state[index] = twisted
end

local function next_state()
  for index = 1, SIZE - SHIFT do
    twist(index, index + 1, index + SHIFT)
  end
  for index = SIZE - SHIFT + 1, SIZE - 1 do
    twist(index, index + 1, index + SHIFT - SIZE)
  end
  twist(SIZE, 1, SHIFT)
  position = 1
end

--- A float in [0, 1) of 32 random bits.
function chance.random()
  if position > SIZE then
    next_state()
  end
  local word = state[position]
  position = position + 1
  word = word ~ (word >> 11)
  word = word ~ ((word << 7) & 0x9d2c5680)
  word = word ~ ((word << 15) & 0xefc60000)
  word = word ~ (word >> 18)
  return word / 4294967296
end

--- An integer from `min` to `max`, both possible.
function chance.integer(min, max)
  assert(max >= min, "max must bigger than min")
  return math.floor(chance.random() * (max - min + 1) + min)
end

chance.seed(5489)

return chance
