-- AES with keys of 128, 192 and 256 bits in the modes CBC, CFB, CTR, ECB and OFB.
-- As in aos: messages are padded with zeros to whole blocks, the first block of what a mode reads is the
-- initial vector (ECB reads no vector, so there it comes out as a block of its own), hex digits come in
-- capitals. Unlike aos, a vector too short for its mode is refused: aos fills it up with the message.

local native = require("weft")
local bytes = require(".crypto.bytes")
local queue = require(".crypto.queue")

local BLOCK_BYTES = 16

local aes = { aes = {}, blocks = {}, modes = {} }

-- A padding: from the block size and the message's length, a stream of bytes to add.
function aes.zeroPadding(blockSize, length)
  local left = -length % blockSize
  return function()
    if left == 0 then return nil end
    left = left - 1
    return 0
  end
end

local function wholeBlocks(raw) return raw .. ("\0"):rep(-#raw % BLOCK_BYTES) end

-- `joined` is the vector and whole blocks of message.
local function run(mode, encrypt, key, joined)
  if mode == "ECB" then return native.cipher("aes", "ecb", encrypt, key, "", joined) end
  local iv, message = joined:sub(1, BLOCK_BYTES), joined:sub(BLOCK_BYTES + 1)
  if #iv < BLOCK_BYTES then return "" end
  return native.cipher("aes", mode:lower(), encrypt, key, iv, message)
end

-- ---- the block cipher, over arrays ----

local function keyOf(key, bits)
  local raw = bytes.of(key, "aes key")
  if #raw < bits // 8 then
    error(("aes: a key of %d bits has %d bytes, got %d"):format(bits, bits // 8, #raw), 3)
  end
  return raw:sub(1, bits // 8)
end

local function block(bits)
  local function one(encrypt)
    return function(key, data)
      local raw = bytes.of(data, "aes block")
      assert(#raw == BLOCK_BYTES, "aes: a block has 16 bytes")
      return bytes.toArray(native.cipher("aes", "ecb", encrypt, keyOf(key, bits), "", raw))
    end
  end
  return { blockSize = BLOCK_BYTES, encrypt = one(true), decrypt = one(false) }
end

local BITS = {}
for _, bits in ipairs({ 128, 192, 256 }) do
  local made = block(bits)
  aes.blocks["aes" .. bits] = made
  BITS[made] = bits
end

-- ---- a mode in steps ----

-- setKey(k).setBlockCipher(aes128).setPadding(zero).init().update(iv).update(message).finish().asHex().
-- Only this library's block ciphers fit.
local function stepped(mode, encrypt)
  return function()
    local key, cipher, padding
    local parts = {}
    local self = {}

    local function output()
      assert(key, "aes: no key is set")
      local bits = BITS[cipher] or error("aes: setBlockCipher takes aes128, aes192 or aes256", 0)
      local joined = table.concat(parts)
      return run(mode, encrypt, keyOf(key, bits), joined:sub(1, #joined // BLOCK_BYTES * BLOCK_BYTES))
    end

    function self.setKey(value)
      key = value
      return self
    end

    function self.setBlockCipher(value)
      cipher = value
      return self
    end

    function self.setPadding(value)
      padding = value
      return self
    end

    function self.init()
      parts = {}
      return self
    end

    function self.update(part)
      parts[#parts + 1] = bytes.of(part, "aes message")
      return self
    end

    function self.finish()
      local joined = table.concat(parts)
      local pad = (padding or aes.zeroPadding)(BLOCK_BYTES, #joined)
      parts = { joined, bytes.of(pad, "aes padding") }
      return self
    end

    function self.getOutputQueue()
      local out = queue()
      for _, byte in ipairs(bytes.toArray(output())) do out.push(byte) end
      return out
    end

    return bytes.answer(self, output, { upper = true })
  end
end

for _, mode in ipairs({ "CBC", "CFB", "CTR", "ECB", "OFB" }) do
  aes.modes[mode] = { Cipher = stepped(mode, true), Decipher = stepped(mode, false) }
end

-- ---- the whole in one call ----

-- An unknown mode is CBC and an unknown length 128, as in aos.
local function crypt(encrypt, message, key, iv, mode, keyLength)
  local bits = (keyLength == 192 or keyLength == 256) and keyLength or 128
  if not aes.modes[mode] then mode = "CBC" end
  local vector = iv and bytes.of(iv, "aes iv") or ("\0"):rep(BLOCK_BYTES)
  if mode ~= "ECB" and #vector < BLOCK_BYTES then
    error(("aes: an initial vector has 16 bytes, got %d"):format(#vector), 3)
  end
  local out = run(mode, encrypt, keyOf(key, bits), wholeBlocks(vector .. message))
  return bytes.result(out, { upper = true })
end

function aes.aes.encrypt(data, key, iv, mode, keyLength)
  return crypt(true, bytes.of(data, "aes data"), key, iv, mode, keyLength)
end

-- `data` as a string is hex; a stream or an array is the bytes themselves.
function aes.aes.decrypt(data, key, iv, mode, keyLength)
  local raw = bytes.of(data, "aes cipher text")
  if type(data) == "string" then
    local decoded, good = bytes.fromHex(raw)
    assert(good == #raw, "aes: the cipher text must be pairs of hex digits")
    raw = decoded
  end
  return crypt(false, raw, key, iv, mode, keyLength)
end

return aes
