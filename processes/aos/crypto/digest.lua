-- The digests, computed natively. Each takes a string, a stream or an array and gives a result with
-- asHex, asString and asBytes.
-- asBytes gives numbers, but for two whose shape in aos differs and is kept: sha2_512 gives eight 64-bit
-- words, blake2b one-letter strings.

local native = require("weft")
local bytes = require(".crypto.bytes")

local digest = { digests = {} }

local function letters(raw)
  local out = {}
  for letter in raw:gmatch(".") do out[#out + 1] = letter end
  return out
end

local function words(raw)
  local out = {}
  for at = 1, #raw, 8 do out[#out + 1] = (">i8"):unpack(raw, at) end
  return out
end

local FORMS = { sha2_512 = { array = words } }

for _, name in ipairs({
  "md2", "md4", "md5", "sha2_512", "sha3_256", "sha3_512", "keccak256", "keccak512",
}) do
  digest.digests[name] = function(message)
    return bytes.result(native.digest(name, bytes.of(message, name)), FORMS[name])
  end
end

-- A length outside 1..64 or a key over 64 bytes gives nil and a text, as in aos.
function digest.digests.blake2b(message, length, key)
  local data = bytes.of(message, "blake2b")
  length, key = length or 64, key and bytes.of(key, "blake2b key") or ""
  if length < 1 or length > 64 or #key > 64 then return nil, "illegal parameters" end
  return bytes.result(native.digest("blake2b", data, length, key), { array = letters })
end

-- A digest that takes its message in parts: init(), update(part)..., finish(), then asHex().
local function parted(name)
  return function()
    local parts = {}
    local self = {}

    function self.init()
      parts = {}
      return self
    end

    function self.update(part)
      parts[#parts + 1] = bytes.of(part, name)
      return self
    end

    function self.finish() return self end

    return bytes.answer(self, function() return native.digest(name, table.concat(parts)) end)
  end
end

digest.SHA1 = parted("sha1")
digest.SHA2_256 = parted("sha2_256")

function digest.digests.sha1(message) return digest.SHA1().update(message).finish() end
function digest.digests.sha2_256(message) return digest.SHA2_256().update(message).finish() end

return digest
