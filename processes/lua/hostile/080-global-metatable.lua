-- must: answer ok
-- The next message finds handle by the normal rules and must get an answer, if only an error.
setmetatable(_G, { __index = function(_, k) if k == "handle" then while true do end end end, __newindex = function() error("read only") end })
return "ok"
