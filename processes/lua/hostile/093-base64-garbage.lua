-- must: answer ok
local base64 = require(".base64")
for length = 0, 64 do pcall(base64.decode, string.rep("=", length)) pcall(base64.decode, string.rep("A", length)) end
pcall(base64.decode, "AAAA", {}) pcall(base64.encode, "AAAA", { [0] = "x" }) pcall(base64.decode, "AAAA", setmetatable({}, { __index = error }))
return "ok"
