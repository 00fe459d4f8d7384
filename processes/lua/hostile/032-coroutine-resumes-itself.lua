-- must: answer cannot resume non-suspended coroutine
local co
co = coroutine.create(function() return coroutine.resume(co) end)
return (select(3, coroutine.resume(co)))
