-- MORUS-1280 (Wu and Huang, CAESAR round 3): authenticated encryption with keys of 16 or 32 bytes and
-- nonces of 16. The state is five rows of four 64-bit words, kept as one table of twenty.
-- The cipher text is the associated data in clear, the message enciphered, the tag of 16 bytes.

local bytes = require(".crypto.bytes")

local morus = { variant = "Morus-1280", key_size = 32, nonce_size = 16 }

local BLOCK_BYTES = 32
local TAG_BYTES = 16
local SETUP_STEPS = 16
local FINAL_STEPS = 10

-- The Fibonacci numbers modulo 256.
local CONSTANTS = {
  0x0d08050302010100, 0x6279e99059372215, 0xf12fc26d55183ddb, 0xdd28b57342311120,
}

-- Per round: bits that the words of the row turn, words that the row three further on turns.
local BIT_TURNS = { 13, 46, 38, 7, 4 }
local WORD_TURNS = { 1, 2, 3, 2, 1 }

local function turnWords(s, row, by)
  local w = { s[row + 1], s[row + 2], s[row + 3], s[row + 4] }
  for i = 0, 3 do s[row + (i + by) % 4 + 1] = w[i + 1] end
end

-- One step in place, on words s[1]..s[20]; m0..m3 are a block of message.
function morus.state_update(s, m0, m1, m2, m3)
  local message = { m0, m1, m2, m3 }
  for round = 0, 4 do
    local row, n1, n2, n3 = 4 * round, 4 * ((round + 1) % 5), 4 * ((round + 2) % 5), 4 * ((round + 3) % 5)
    local turn = BIT_TURNS[round + 1]
    for i = 1, 4 do
      local x = s[row + i] ~ (s[n1 + i] & s[n2 + i]) ~ s[n3 + i]
      if round > 0 then x = x ~ message[i] end
      s[row + i] = (x << turn) | (x >> (64 - turn))
    end
    turnWords(s, n3, WORD_TURNS[round + 1])
  end
end

local function blockWords(raw) return ("<i8i8i8i8"):unpack(raw) end

local function setup(key, iv)
  assert(#key == 16 or #key == 32, "key must be 16 or 32 bytes")
  assert(#iv == 16, "iv must be 16 bytes")
  if #key == 16 then key = key .. key end
  local k = { blockWords(key) }
  local v0, v1 = ("<i8i8"):unpack(iv)
  local s = { v0, v1, 0, 0, k[1], k[2], k[3], k[4], -1, -1, -1, -1, 0, 0, 0, 0, table.unpack(CONSTANTS) }
  for _ = 1, SETUP_STEPS do morus.state_update(s, 0, 0, 0, 0) end
  for i = 1, 4 do s[4 + i] = s[4 + i] ~ k[i] end
  return s
end

-- The key stream's word i of the state.
local function keyWord(s, i)
  return s[i] ~ s[4 + i % 4 + 1] ~ (s[8 + i] & s[12 + i])
end

local function padded(raw) return raw .. ("\0"):rep(BLOCK_BYTES - #raw) end

local function xorKey(s, raw)
  local w = { blockWords(padded(raw)) }
  for i = 1, 4 do w[i] = w[i] ~ keyWord(s, i) end
  return ("<i8i8i8i8"):pack(w[1], w[2], w[3], w[4]):sub(1, #raw)
end

local function eachBlock(raw, visit)
  for at = 1, #raw, BLOCK_BYTES do visit(raw:sub(at, at + BLOCK_BYTES - 1)) end
end

local function absorb(s, data)
  eachBlock(data, function(piece) morus.state_update(s, blockWords(padded(piece))) end)
end

local function tag(s, dataBytes, messageBytes)
  for i = 1, 4 do s[16 + i] = s[16 + i] ~ s[i] end
  for _ = 1, FINAL_STEPS do morus.state_update(s, dataBytes * 8, messageBytes * 8, 0, 0) end
  return ("<i8i8"):pack(keyWord(s, 1), keyWord(s, 2))
end

-- asBytes gives the parts as strings: data, blocks, tag (aos's shape).
function morus.encrypt(key, iv, message, data)
  local s = setup(bytes.of(key, "morus key"), bytes.of(iv, "morus iv"))
  message, data = bytes.of(message, "morus message"), data and bytes.of(data, "morus data") or ""
  local parts = { data }
  absorb(s, data)
  eachBlock(message, function(piece)
    parts[#parts + 1] = xorKey(s, piece)
    morus.state_update(s, blockWords(padded(piece)))
  end)
  parts[#parts + 1] = tag(s, #data, #message)
  return bytes.result(table.concat(parts), { array = function() return parts end })
end

-- The message, or nil and a text. `dataBytes` is the length of the associated data in front.
function morus.decrypt(key, iv, cipher, dataBytes)
  local s = setup(bytes.of(key, "morus key"), bytes.of(iv, "morus iv"))
  cipher, dataBytes = bytes.of(cipher, "morus cipher text"), dataBytes or 0
  assert(#cipher >= dataBytes + TAG_BYTES, "morus: the cipher text is shorter than its data and tag")
  local hidden, parts = cipher:sub(dataBytes + 1, -TAG_BYTES - 1), {}
  absorb(s, cipher:sub(1, dataBytes))
  eachBlock(hidden, function(piece)
    local plain = xorKey(s, piece)
    parts[#parts + 1] = plain
    morus.state_update(s, blockWords(padded(plain)))
  end)
  if tag(s, dataBytes, #hidden) ~= cipher:sub(-TAG_BYTES) then return nil, "decrypt error" end
  return table.concat(parts)
end

return morus
