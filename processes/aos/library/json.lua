---@meta json
-- JSON. Generated: change api.toml instead.

---@class json
local json = {}

---A value as JSON text. Fails on functions, and on tables that are neither list nor map.
---@param value any
---@return string
function json.encode(value) end

---The value that a JSON text says. Fails on anything else.
---@param text string
---@return any
function json.decode(text) end

return json
