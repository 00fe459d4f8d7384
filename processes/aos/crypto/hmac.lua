-- HMAC (RFC 2104).
-- createHmac answers as aos does, which pads the key to 32 bytes where the RFC pads to the digest's block:
-- its codes match aos programs and nothing else. `standard` (crypto.mac.hmac) is the RFC's.

local native = require("weft")
local bytes = require(".crypto.bytes")
local digest = require(".crypto.digest")

local hmac = {}

local AOS_BLOCK_BYTES = 32

local ALGORITHMS = {
  md5 = { digest = "md5", block = 64 },
  sha1 = { digest = "sha1", block = 64 },
  sha256 = { digest = "sha2_256", block = 64 },
  sha512 = { digest = "sha2_512", block = 128 },
}
for name, block in pairs({ md4 = 64, sha2_256 = 64, sha2_512 = 128, sha3_256 = 136, sha3_512 = 72 }) do
  ALGORITHMS[name] = { digest = name, block = block }
end

local function xorEach(raw, byte)
  return (raw:gsub(".", function(c) return string.char(c:byte() ~ byte) end))
end

-- The code as a function of the message: the key's two pads are made once. `hash` maps string to string.
function hmac.keyed(hash, block, key)
  if #key > block then key = hash(key) end
  key = key .. ("\0"):rep(block - #key)
  local inner, outer = xorEach(key, 0x36), xorEach(key, 0x5c)
  return function(message) return hash(outer .. hash(inner .. message)) end
end

local function native_hash(name)
  return function(message) return native.digest(name, message) end
end

-- The keyed code of RFC 2104 with the named digest, or nil if there is none of that name.
function hmac.named(algorithm, key)
  local found = ALGORITHMS[algorithm]
  return found and hmac.keyed(native_hash(found.digest), found.block, key)
end

function hmac.standard(data, key, algorithm)
  local code = hmac.named(algorithm or "sha256", bytes.of(key, "hmac key"))
  if not code then error("Unsupported algorithm: " .. tostring(algorithm), 2) end
  return bytes.result(code(bytes.of(data, "hmac data")))
end

-- The code in steps: setBlockSize(n).setDigest(SHA1).setKey(key).init().update(part)...finish().asHex().
function hmac.HMAC()
  local block, hash, code = 64, nil, nil
  local parts = {}
  local self = {}

  function self.setBlockSize(size)
    block = size
    return self
  end

  function self.setDigest(constructor)
    hash = function(message) return constructor().init().update(message).finish().asString() end
    return self
  end

  function self.setKey(key)
    assert(hash, "Digest not set")
    code = hmac.keyed(hash, block, bytes.of(key, "hmac key"))
    return self
  end

  function self.init()
    parts = {}
    return self
  end

  function self.update(part)
    parts[#parts + 1] = bytes.of(part, "hmac data")
    return self
  end

  function self.finish() return self end

  return bytes.answer(self, function()
    assert(code, "hmac: no key is set")
    return code(table.concat(parts))
  end)
end

local CONSTRUCTORS = { sha1 = digest.SHA1, sha256 = digest.SHA2_256 }

function hmac.createHmac(data, key, algorithm)
  local constructor = CONSTRUCTORS[algorithm or "sha1"]
  if not constructor then error("Unsupported algorithm: " .. tostring(algorithm), 2) end
  local code = hmac.HMAC().setBlockSize(AOS_BLOCK_BYTES).setDigest(constructor)
  return code.setKey(key).init().update(data).finish()
end

return hmac
