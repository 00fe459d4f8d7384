-- must: answer ok
local function down(n) if n == 0 then return debug.traceback("deep") end return (down(n - 1)) end
return #down(10000) < 5000 and "ok"
