-- must: answer ok
local ok = xpcall(error, function() error("again") end)
return ok == false and "ok"
