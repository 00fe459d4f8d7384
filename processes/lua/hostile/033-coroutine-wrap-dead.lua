-- must: error cannot resume dead coroutine
local f = coroutine.wrap(function() end) f() f()
