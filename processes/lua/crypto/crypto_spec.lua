-- The crypto library in a process: the standards' own vectors, and the reference module's answers.

local VECTORS = {
  -- RFC 1319, 1320, 1321
  { 'digest.md2(S("")).asHex()', "8350e5a3e24c153df2275c9f80692773" },
  { 'digest.md2(S("message digest")).asHex()', "ab4f496bfb2a530b219ff33031fe06b0" },
  { 'digest.md4(S("")).asHex()', "31d6cfe0d16ae931b73c59d7e0c089c0" },
  { 'digest.md4(S("message digest")).asHex()', "d9130a8164549fe818874806e1c7014b" },
  { 'digest.md5(S("")).asHex()', "d41d8cd98f00b204e9800998ecf8427e" },
  { 'digest.md5(S("message digest")).asHex()', "f96b697d7cb7938d525a2f31aaf161d0" },
  -- FIPS 180
  { 'digest.sha1(S("abc")).asHex()', "a9993e364706816aba3e25717850c26c9cd0d89d" },
  { 'digest.sha2_256(S("abc")).asHex()', "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
  { 'digest.sha2_256("abc").asHex()', "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
  { 'digest.sha2_512("").asHex()',
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" ..
    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e" },
  -- FIPS 202 and Keccak
  { 'digest.sha3_256("").asHex()', "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a" },
  { 'digest.keccak256("").asHex()', "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470" },
  -- RFC 7693
  { 'digest.blake2b("abc").asHex()',
    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1" ..
    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923" },
  -- FIPS 197, appendix C, as ECB with no vector
  { 'cipher.aes.encrypt(H("00112233445566778899AABBCCDDEEFF"), H("000102030405060708090A0B0C0D0E0F"), "", "ECB").asHex()',
    "69C4E0D86A7B0430D8CDB78070B4C55A" },
  -- RFC 2202 and RFC 4231
  { 'mac.hmac("what do ya want for nothing?", "Jefe", "sha1").asHex()', "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79" },
  { 'mac.hmac("what do ya want for nothing?", "Jefe").asHex()',
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
  -- RFC 6070
  { 'kdf.pbkdf2(A("password"), A("salt"), 2, 20).asHex()', "EA6C014DC72D6F8CCD1ED92ACE1D41F0D8DE8957" },
}

local REFUSALS = {
  { 'cipher.aes.encrypt("a", "short", ("i"):rep(16))', "a key of 128 bits has 16 bytes, got 5" },
  { 'cipher.aes.encrypt("a", ("k"):rep(16), "iv")', "an initial vector has 16 bytes, got 2" },
  { 'cipher.aes.decrypt("xyz", ("k"):rep(16))', "pairs of hex digits" },
  { 'cipher.norx.encrypt("k", ("n"):rep(32), "m")', "a key has 32 bytes, got 1" },
  { 'cipher.morus.encrypt("k", ("n"):rep(16), "m")', "key must be 16 or 32 bytes" },
  { 'digest.md5(12)', "expected a string, a stream or an array of bytes, got number" },
  { 'mac.createHmac("m", "k", "crc32")', "Unsupported algorithm: crc32" },
  { 'kdf.pbkdf2("p", "s", 0, 20)', "iterations must be a positive integer, got 0" },
}

local function in_library(expression)
  return ([[(function()
    local crypto = require(".crypto")
    local digest, cipher, mac, kdf = crypto.digest, crypto.cipher, crypto.mac, crypto.kdf
    local S, A, H = crypto.utils.stream.fromString, crypto.utils.array.fromString, crypto.utils.array.fromHex
    return %s
  end)()]]):format(expression)
end

describe("crypto", function()
  local process

  before_each(function() process = spawn { name = "crypto" } end)

  for _, vector in ipairs(VECTORS) do
    it("answers the standard's vector: " .. vector[1], function()
      assert.equals(vector[2], process:get(in_library(vector[1])))
    end)
  end

  for _, refusal in ipairs(REFUSALS) do
    it("refuses " .. refusal[1], function()
      local call = ("select(2, pcall(function() return %s end))"):format(refusal[1])
      local text = process:get(in_library(call))
      assert.is_truthy(text:find(refusal[2], 1, true), text)
    end)
  end

  it("answers as the reference module does", function()
    local checked = spawn { load = "conformance.lua", name = "conformance" }
    assert.same({}, checked:get("CryptoDifferences"))
  end)

  it("reads a result as often as wanted", function()
    local twice = [[(function()
      local r = cipher.aes.encrypt("ao", ("k"):rep(16))
      return r.asHex() == r.asHex() and #r.asString() == 16
    end)()]]
    assert.is_true(process:get(in_library(twice)))
  end)
end)
