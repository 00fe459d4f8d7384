-- must: answer {"q":"[1]"}
-- A response's metamethods run, and may use the encoder.
local json = require("json")
return json.encode(setmetatable({ x = 1 }, { __pairs = function() return next, { q = json.encode({ 1 }) }, nil end }))
