-- must: answer ok
local function handler() return handler_missing.field end
local ok = xpcall(function() local function down() return 1 + down() end return down() end, handler)
return ok == false and "ok"
