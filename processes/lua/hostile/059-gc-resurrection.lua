-- must: answer ok
local t = setmetatable({}, { __gc = true })
getmetatable(t).__gc = function() error("finalizer") end
setmetatable(t, getmetatable(t))
t = nil
collectgarbage()
return "ok"
