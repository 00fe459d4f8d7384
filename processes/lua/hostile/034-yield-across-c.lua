-- must: error attempt to yield across a C-call boundary
return coroutine.wrap(function() table.sort({ 2, 1 }, function() coroutine.yield() end) end)()
