-- PBKDF2 (RFC 8018) over HMAC-SHA-1 and HMAC-SHA-256. Hex digits come in capitals, as in aos.

local bytes = require(".crypto.bytes")
local hmac = require(".crypto.hmac")

local pbkdf2 = {}

-- Strings of equal length, xored in words of eight bytes and a tail of single ones.
local function xorInto(sums, format, raw)
  local words = { format:unpack(raw) }
  for i = 1, #words - 1 do sums[i] = (sums[i] or 0) ~ words[i] end
end

local function wordFormat(length)
  return "<" .. ("i8"):rep(length // 8) .. ("B"):rep(length % 8)
end

-- Block number `index` of the derived key.
local function block(code, salt, iterations, index)
  local raw = code(salt .. (">I4"):pack(index))
  local format, sums = wordFormat(#raw), {}
  xorInto(sums, format, raw)
  for _ = 2, iterations do
    raw = code(raw)
    xorInto(sums, format, raw)
  end
  return format:pack(table.unpack(sums))
end

local function positive(value, what)
  if math.type(value) ~= "integer" or value < 1 then
    error("pbkdf2: " .. what .. " must be a positive integer, got " .. tostring(value), 3)
  end
end

local function derive(code, salt, iterations, length)
  local blocks, have, index = {}, 0, 0
  while have < length do
    index = index + 1
    blocks[index] = block(code, salt, iterations, index)
    have = have + #blocks[index]
  end
  return table.concat(blocks):sub(1, length)
end

function pbkdf2.pbkdf2(password, salt, iterations, length, algorithm)
  algorithm = algorithm or "sha1"
  local known = algorithm == "sha1" or algorithm == "sha256"
  if not known then error("Unsupported algorithm: " .. tostring(algorithm), 2) end
  positive(iterations, "iterations")
  if length ~= 0 then positive(length, "the key's length") end
  local code = hmac.named(algorithm, bytes.of(password, "pbkdf2 password"))
  local key = derive(code, bytes.of(salt, "pbkdf2 salt"), iterations, length)
  return bytes.result(key, { upper = true })
end

-- The derivation in steps. The PRF is an HMAC object with its digest set; the block length is its digest's.
function pbkdf2.PBKDF2()
  local given, key = {}, nil
  local self = {}

  local function setter(name)
    return function(value)
      given[name] = value
      return self
    end
  end

  self.setBlockLen = setter("blockLen")
  self.setDKeyLen = setter("length")
  self.setIterations = setter("iterations")
  self.setPRF = setter("prf")
  self.setPassword = setter("password")
  self.setSalt = setter("salt")

  function self.finish()
    positive(given.iterations, "iterations")
    positive(given.length, "the key's length")
    assert(given.prf, "pbkdf2: no PRF is set")
    given.prf.setKey(given.password)
    local function code(message) return given.prf.init().update(message).finish().asString() end
    key = derive(code, bytes.of(given.salt, "pbkdf2 salt"), given.iterations, given.length)
    return self
  end

  return bytes.answer(self, function()
    assert(key, "pbkdf2: finish() comes first")
    return key
  end, { upper = true })
end

return pbkdf2
