-- must: answer ok
-- A coroutine in a coroutine in a coroutine: each is a C level.
local deepest = 0
local function down(depth)
  deepest = math.max(deepest, depth)
  return coroutine.wrap(down)(depth + 1)
end
local ok, why = pcall(down, 1)
assert(not ok and tostring(why):find("C stack overflow"), why)
return deepest > 100 and deepest < 300 and "ok" or tostring(deepest)
