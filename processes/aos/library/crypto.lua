---@meta .crypto
-- Digests, codes and ciphers. A process keeps no secrets: every node reads its messages and its state. Generated: change api.toml instead.

---A digest or a ciphertext. It can be read as often as wanted.
---@class crypto.Result
---@field asHex fun(): string # Hex digits.
---@field asString fun(): string # Bytes.
---@field asBytes fun(): integer[] # A list of bytes.

---Digests of a stream, or of a text.
---@class crypto.Digest
---@field md2 fun(input: any): crypto.Result
---@field md4 fun(input: any): crypto.Result
---@field md5 fun(input: any): crypto.Result
---@field sha1 fun(input: any): crypto.Result
---@field sha2_256 fun(input: any): crypto.Result
---@field sha2_512 fun(input: any): crypto.Result
---@field sha3_256 fun(input: any): crypto.Result
---@field sha3_512 fun(input: any): crypto.Result
---@field keccak256 fun(input: any): crypto.Result
---@field keccak512 fun(input: any): crypto.Result
---@field blake2b fun(input: any, length?: integer, key?: string): crypto.Result

---@class crypto
local crypto = {}

---Digests.
---@type crypto.Digest
crypto.digest = nil

---Ciphers: `aes`, `issac`, `morus`, `norx`.
---@type table
crypto.cipher = nil

---Message codes: `createHmac`, and `hmac(data, key, algorithm)` of RFC 2104.
---@type table
crypto.mac = nil

---Keys from passwords: `pbkdf2`.
---@type table
crypto.kdf = nil

---`stream`, `array`, `hex`, `queue`.
---@type table
crypto.utils = nil

---Repeatable random numbers.
---@type function
crypto.random = nil

return crypto
