-- must: error attempt to yield from outside a coroutine
return coroutine.yield()
