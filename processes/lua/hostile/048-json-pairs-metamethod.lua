-- must: answer {"a":"{\"b\":1}"}
-- A metamethod that encodes while the encoder is at work must not spoil its text.
local json = require("json")
local t = setmetatable({ x = 1 }, { __pairs = function()
  local inner = json.encode({ b = 1 })
  pcall(json.encode, { "half written", print })
  return next, { a = inner }, nil
end })
return json.encode(t)
