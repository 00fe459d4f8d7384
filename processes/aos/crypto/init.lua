-- The crypto library: puts the parts together and gives them the names that aos programs require.
-- Digests and AES run natively (`require("weft")`); the rest is Lua in this folder.
-- What it is not: a keeper of secrets. A process's messages and state are public, its keys with them.

local array = require(".crypto.array")
local stream = require(".crypto.stream")
local queue = require(".crypto.queue")
local hex = require(".crypto.hex")
local digest = require(".crypto.digest")
local hmac = require(".crypto.hmac")
local pbkdf2 = require(".crypto.pbkdf2")
local aes = require(".crypto.aes")
local isaac = require(".crypto.isaac")
local morus = require(".crypto.morus")
local norx = require(".crypto.norx")

local VERSION = "0.0.1"

local utils = {
  _version = VERSION,
  array = array,
  bit = bit32,
  hex = hex,
  queue = queue,
  stream = stream,
}

local digests = { _version = VERSION }
for name, run in pairs(digest.digests) do digests[name] = run end

local cipher = { _version = VERSION, aes = aes.aes, issac = isaac, morus = morus, norx = norx }
local kdf = { _version = VERSION, pbkdf2 = pbkdf2.pbkdf2 }
local mac = { _version = VERSION, createHmac = hmac.createHmac, hmac = hmac.standard }

-- The names under which aos loads each part.
local names = {
  ["util.init"] = utils,
  ["util.array"] = array,
  ["util.bit"] = bit32,
  ["util.hex"] = hex,
  ["util.queue"] = queue,
  ["util.stream"] = stream,
  ["digest.init"] = digests,
  ["digest.sha1"] = { sha1 = digests.sha1, SHA1 = digest.SHA1 },
  ["digest.sha2_256"] = { sha2_256 = digests.sha2_256, SHA2_256 = digest.SHA2_256 },
  ["digest.sha3"] = {
    sha3_256 = digests.sha3_256,
    sha3_512 = digests.sha3_512,
    keccak256 = digests.keccak256,
    keccak512 = digests.keccak512,
  },
  ["mac.init"] = mac,
  ["mac.hmac"] = { hmac = hmac.createHmac, HMAC = hmac.HMAC },
  ["kdf.init"] = kdf,
  ["kdf.pbkdf2"] = { pbkdf2 = pbkdf2.pbkdf2, PBKDF2 = pbkdf2.PBKDF2 },
  ["cipher.init"] = cipher,
  ["cipher.aes"] = aes.aes,
  ["cipher.issac"] = isaac,
  ["cipher.morus"] = morus,
  ["cipher.norx"] = norx,
  ["padding.zero"] = aes.zeroPadding,
}
for _, name in ipairs({ "md2", "md4", "md5", "sha2_512", "blake2b" }) do
  names["digest." .. name] = digests[name]
end
for name, block in pairs(aes.blocks) do names["cipher." .. name] = block end
for name, mode in pairs(aes.modes) do names["cipher.mode." .. name:lower()] = mode end
for name, part in pairs(names) do package.loaded[".crypto." .. name] = part end

return {
  _version = VERSION,
  cipher = cipher,
  digest = digests,
  kdf = kdf,
  mac = mac,
  random = isaac.random,
  utils = utils,
}
