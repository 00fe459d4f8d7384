-- Calls every function of the crypto library on seeded inputs and prints each answer as a line.
-- One program for two environments: the reference module and this one must print the same.
-- Where the two differ by decision (see processes/aos/crypto/README.md) no case is drawn.

local crypto = require(".crypto.init")
local stream, array, hex = crypto.utils.stream, crypto.utils.array, crypto.utils.hex

local state = CASES_SEED or 1
local rounds = CASES_ROUNDS or 1
local lines = {}

-- Small and portable: the two environments need not share math.random.
local function below(n)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return (state >> 33) % n
end

local function raw(length)
  local out = {}
  for i = 1, length do out[i] = string.char(below(256)) end
  return table.concat(out)
end

local function printable(length)
  local out = {}
  for i = 1, length do out[i] = string.char(32 + below(95)) end
  return table.concat(out)
end

local function line(name, value) lines[#lines + 1] = name .. " " .. tostring(value) end

local function list(values)
  local out = {}
  for i, value in ipairs(values) do
    out[i] = type(value) == "string" and hex.stringToHex(value) or tostring(value)
  end
  return table.concat(out, ",")
end

-- Lengths at which the reference pads sha2_512, sha3, keccak or blake2b wrongly are stepped over.
local function soundLength(length)
  local function wrong()
    local tail = length % 128
    return (tail >= 112 and tail <= 118) or (tail == 0 and length > 0) or length % 72 == 71 or length % 136 == 135
  end
  while wrong() do length = length + 1 end
  return length
end

-- A result can be read once only in the reference: one call per form.
local function forms(name, make)
  line(name .. ".hex", make().asHex())
  line(name .. ".string", hex.stringToHex(make().asString()))
  if make().asBytes then line(name .. ".bytes", list(make().asBytes())) end
end

local function digests()
  local message = raw(below(300))
  for _, name in ipairs({ "md2", "md4", "md5", "sha1", "sha2_256" }) do
    forms(name, function() return crypto.digest[name](stream.fromString(message)) end)
  end
  message = raw(soundLength(below(300)))
  forms("sha2_512", function() return crypto.digest.sha2_512(message) end)
  for _, name in ipairs({ "sha3_256", "sha3_512", "keccak256", "keccak512" }) do
    line(name, crypto.digest[name](message).asHex())
  end
  local length, key = 1 + below(64), raw(below(65))
  forms("blake2b", function() return crypto.digest.blake2b(message) end)
  local short = raw(1 + below(127))
  forms("blake2b.keyed", function() return crypto.digest.blake2b(short, length, key) end)
end

local function codes()
  local message, salt = raw(below(200)), raw(below(40))
  local key = raw(1 + below(100))
  for _, name in ipairs({ "sha1", "sha256" }) do
    forms("hmac." .. name, function()
      return crypto.mac.createHmac(stream.fromString(message), array.fromString(key), name)
    end)
    local iterations, length = 1 + below(4), 1 + below(70)
    forms("pbkdf2." .. name, function()
      return crypto.kdf.pbkdf2(array.fromString(key), array.fromString(salt), iterations, length, name)
    end)
  end
end

local function aes()
  local modes = { "CBC", "CFB", "CTR", "ECB", "OFB" }
  local mode, bits = modes[1 + below(5)], 128 + 64 * below(3)
  local key, iv, message = raw(bits // 8 + below(3)), raw(16), raw(below(100))
  local name = "aes." .. mode .. "." .. bits
  forms(name, function() return crypto.cipher.aes.encrypt(message, key, iv, mode, bits) end)
  local cipher = crypto.cipher.aes.encrypt(message, key, iv, mode, bits).asHex()
  forms(name .. ".back", function() return crypto.cipher.aes.decrypt(cipher, key, iv, mode, bits) end)
  local block = require(".crypto.cipher.aes" .. bits)
  local exact = array.fromString(key:sub(1, bits // 8))
  line("block", list(block.encrypt(exact, array.fromString(iv))))
  line("block.back", list(block.decrypt(exact, array.fromString(iv))))
end

local function isaac()
  local seed, message = raw(below(300)), printable(below(80))
  line("isaac.random", crypto.random(below(100), 100 + below(1000000), seed))
  for _, mix in ipairs({ true, false }) do
    crypto.cipher.issac.seedIsaac(seed, mix)
    for _ = 1, below(600) do crypto.cipher.issac.getRandom() end
    line("isaac.next", crypto.cipher.issac.getRandom())
    line("isaac.letter", crypto.cipher.issac.getRandomChar())
  end
  forms("isaac", function() return crypto.cipher.issac.encrypt(message, seed) end)
  local cipher = crypto.cipher.issac.encrypt(message, seed).asString()
  line("isaac.back", crypto.cipher.issac.decrypt(cipher, seed))
  line("isaac.fold", hex.stringToHex(crypto.cipher.issac.decrypt(raw(20), seed)))
end

local function morus()
  local key, iv, message, data = raw(16 + 16 * below(2)), raw(16), raw(below(120)), raw(below(80))
  forms("morus", function() return crypto.cipher.morus.encrypt(key, iv, message, data) end)
  local cipher = crypto.cipher.morus.encrypt(key, iv, message, data).asString()
  line("morus.back", crypto.cipher.morus.decrypt(key, iv, cipher, #data) == message)
  local bad = cipher:sub(1, -2) .. string.char(cipher:byte(-1) ~ 1)
  line("morus.forged", list({ tostring(crypto.cipher.morus.decrypt(key, iv, bad, #data)) }))
end

local function norx()
  local key, nonce, message = raw(32), raw(32), raw(below(300))
  local header, trailer = raw(below(150)), raw(below(150))
  forms("norx", function() return crypto.cipher.norx.encrypt(key, nonce, message, header, trailer) end)
  local cipher = crypto.cipher.norx.encrypt(key, nonce, message, header, trailer).asString()
  line("norx.back", crypto.cipher.norx.decrypt(key, nonce, cipher, header, trailer) == message)
  line("norx.forged", select(2, crypto.cipher.norx.decrypt(key, nonce, cipher, header, trailer .. "x")))
end

local function utilities()
  local text = raw(below(40))
  local digits = array.toHex(array.fromString(text))
  line("array.toHex", digits)
  line("array.fromHex", list(array.fromHex(digits)))
  line("stream.toHex", stream.toHex(stream.fromHex(digits)))
  line("stream.toArray", list(stream.toArray(stream.fromArray(array.fromString(text)))))
  line("hex.lines", hex.stringToHex(text, 1 + below(5), ":"))
  line("hex.back", hex.stringToHex(hex.hexToString(digits)))
  local a, b = array.fromString(raw(10)), array.fromString(raw(10))
  line("array.XOR", list(array.XOR(a, b)))
  line("array.concat", list(array.concat(a, b)))
  line("array.slice", list(array.slice(a, 1 + below(5), 5 + below(5))))
  line("array.truncate", list(array.truncate(a, below(11))))
  line("array.permute", list(array.permute(a, { 3, 1, 2, 10, 5 })))
  local queue = crypto.utils.queue()
  array.writeToQueue(queue, a)
  line("queue.read", list(array.readFromQueue(queue, below(12))))
  line("queue.counts", queue.size() .. " " .. queue.getHead() .. " " .. queue.getTail())
end

for _ = 1, rounds do
  for _, part in ipairs({ digests, codes, aes, isaac, morus, norx, utilities }) do part() end
end

return table.concat(lines, "\n")
