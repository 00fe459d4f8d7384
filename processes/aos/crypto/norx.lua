-- NORX 64-4-1 (Aumasson, Jovanovic and Neves, version 3.0): authenticated encryption with a header and a
-- trailer; key, nonce and tag have 32 bytes each. The state is sixteen 64-bit words, s[0]..s[15].
-- The cipher text is the message enciphered and the tag.

local bytes = require(".crypto.bytes")

local norx = { variant = "NORX 64-4-1", key_size = 32, nonce_size = 32 }

local ROUNDS = 4
local RATE_BYTES = 96
local TAG_BYTES = 32
local WORD_BITS, LANES, TAG_BITS = 64, 1, 256

-- What a step absorbs, told apart in the last word of the state.
local DOMAIN = { header = 0x01, payload = 0x02, trailer = 0x04, tag = 0x08 }

-- Columns, then diagonals, of the 4 x 4 matrix of words.
local QUARTERS = {
  { 0, 4, 8, 12 }, { 1, 5, 9, 13 }, { 2, 6, 10, 14 }, { 3, 7, 11, 15 },
  { 0, 5, 10, 15 }, { 1, 6, 11, 12 }, { 2, 7, 8, 13 }, { 3, 4, 9, 14 },
}

local function turnRight(x, n) return (x >> n) | (x << (64 - n)) end

-- Addition's nearest relative without carries.
local function blend(x, y) return (x ~ y) ~ ((x & y) << 1) end

local function quarter(s, q)
  local ia, ib, ic, id = q[1], q[2], q[3], q[4]
  local a, b, c, d = s[ia], s[ib], s[ic], s[id]
  a = blend(a, b)
  d = turnRight(a ~ d, 8)
  c = blend(c, d)
  b = turnRight(b ~ c, 19)
  a = blend(a, b)
  d = turnRight(a ~ d, 40)
  c = blend(c, d)
  b = turnRight(b ~ c, 63)
  s[ia], s[ib], s[ic], s[id] = a, b, c, d
end

local function permute(s, rounds)
  for _ = 1, rounds do
    for _, q in ipairs(QUARTERS) do quarter(s, q) end
  end
end

-- Words 8..15 of the start: two rounds over 0..15.
local function constants()
  local s = {}
  for i = 0, 15 do s[i] = i end
  permute(s, 2)
  return s
end

local START = constants()

local function words(raw, what)
  assert(#raw == 32, "norx: a " .. what .. " has 32 bytes, got " .. #raw)
  return { ("<i8i8i8i8"):unpack(raw) }
end

local function setup(k, n)
  local s = {}
  for i = 0, 3 do
    s[i], s[4 + i] = n[i + 1], k[i + 1]
  end
  for i = 8, 15 do s[i] = START[i] end
  for i, parameter in ipairs({ WORD_BITS, ROUNDS, LANES, TAG_BITS }) do
    s[11 + i] = s[11 + i] ~ parameter
  end
  permute(s, ROUNDS)
  for i = 0, 3 do s[12 + i] = s[12 + i] ~ k[i + 1] end
  return s
end

local function enter(s, domain)
  s[15] = s[15] ~ domain
  permute(s, ROUNDS)
end

-- Pads with a 1 bit, zeros and a last 1 bit to the rate.
local function padded(raw)
  local room = RATE_BYTES - #raw
  if room == 1 then return raw .. "\x81" end
  return raw .. "\x01" .. ("\0"):rep(room - 2) .. "\x80"
end

local function xorBlock(s, raw)
  for i = 0, 11 do s[i] = s[i] ~ ("<i8"):unpack(raw, 8 * i + 1) end
end

-- The rate's bytes, word by word.
local function rate(s)
  local out = {}
  for i = 0, 11 do out[i + 1] = ("<i8"):pack(s[i]) end
  return out
end

local function absorb(s, raw, domain)
  if #raw == 0 then return end
  for at = 1, #raw + 1, RATE_BYTES do
    local piece = raw:sub(at, at + RATE_BYTES - 1)
    enter(s, domain)
    xorBlock(s, #piece == RATE_BYTES and piece or padded(piece))
  end
end

-- Appends the message's parts, enciphered: full blocks as twelve words, then the last, shorter part.
local function encipher(s, message, parts)
  if #message == 0 then return end
  for at = 1, #message + 1, RATE_BYTES do
    local piece = message:sub(at, at + RATE_BYTES - 1)
    enter(s, DOMAIN.payload)
    if #piece == RATE_BYTES then
      xorBlock(s, piece)
      table.move(rate(s), 1, 12, #parts + 1, parts)
    else
      xorBlock(s, padded(piece))
      parts[#parts + 1] = table.concat(rate(s)):sub(1, #piece)
    end
  end
end

local function xorStrings(a, b)
  local out = {}
  for i = 1, #a do out[i] = string.char(a:byte(i) ~ b:byte(i)) end
  return table.concat(out)
end

local function decipher(s, hidden)
  local parts = {}
  if #hidden == 0 then return "" end
  for at = 1, #hidden + 1, RATE_BYTES do
    local piece = hidden:sub(at, at + RATE_BYTES - 1)
    enter(s, DOMAIN.payload)
    local plain = xorStrings(piece, table.concat(rate(s)))
    xorBlock(s, #piece == RATE_BYTES and plain or padded(plain))
    parts[#parts + 1] = plain
  end
  return table.concat(parts)
end

local function tag(s, k)
  enter(s, DOMAIN.tag)
  for i = 0, 3 do s[12 + i] = s[12 + i] ~ k[i + 1] end
  permute(s, ROUNDS)
  for i = 0, 3 do s[12 + i] = s[12 + i] ~ k[i + 1] end
  return ("<i8i8i8i8"):pack(s[12], s[13], s[14], s[15])
end

local function optional(value, what) return value and bytes.of(value, what) or "" end

-- asBytes gives the parts as strings (aos's shape).
function norx.encrypt(key, nonce, plain, header, trailer)
  local k = words(bytes.of(key, "norx key"), "key")
  local s = setup(k, words(bytes.of(nonce, "norx nonce"), "nonce"))
  local parts = {}
  absorb(s, optional(header, "norx header"), DOMAIN.header)
  encipher(s, bytes.of(plain, "norx message"), parts)
  absorb(s, optional(trailer, "norx trailer"), DOMAIN.trailer)
  parts[#parts + 1] = tag(s, k)
  return bytes.result(table.concat(parts), { array = function() return parts end })
end

-- The message, or nil and a text.
function norx.decrypt(key, nonce, cipher, header, trailer)
  local k = words(bytes.of(key, "norx key"), "key")
  local s = setup(k, words(bytes.of(nonce, "norx nonce"), "nonce"))
  cipher = bytes.of(cipher, "norx cipher text")
  assert(#cipher >= TAG_BYTES, "norx: the cipher text is shorter than its tag")
  absorb(s, optional(header, "norx header"), DOMAIN.header)
  local plain = decipher(s, cipher:sub(1, -TAG_BYTES - 1))
  absorb(s, optional(trailer, "norx trailer"), DOMAIN.trailer)
  if tag(s, k) ~= cipher:sub(-TAG_BYTES) then return nil, "auth failure" end
  return plain
end

return norx
