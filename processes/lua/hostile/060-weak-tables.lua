-- must: answer 0
local weak = setmetatable({}, { __mode = "kv" })
for i = 1, 1000 do weak[{}] = {} end
collectgarbage()
local n = 0 for _ in pairs(weak) do n = n + 1 end
return tostring(n)
