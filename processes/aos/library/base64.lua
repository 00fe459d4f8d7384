---@meta .base64
-- Base64 with the alphabet of RFC 4648, or another one. Generated: change api.toml instead.

---@class base64
local base64 = {}

---Bytes as base64.
---@param text string
---@param encoder? table<integer, integer>
---@param cache? boolean
---@return string
function base64.encode(text, encoder, cache) end

---The bytes that a base64 text says.
---@param text string
---@param decoder? table<integer, integer>
---@param cache? boolean
---@return string
function base64.decode(text, decoder, cache) end

---An alphabet that ends in other characters.
---@param c62? string
---@param c63? string
---@param pad? string
---@return table<integer, integer>
function base64.makeencoder(c62, c63, pad) end

---The way back of such an alphabet.
---@param c62? string
---@param c63? string
---@param pad? string
---@return table<integer, integer>
function base64.makedecoder(c62, c63, pad) end

return base64
