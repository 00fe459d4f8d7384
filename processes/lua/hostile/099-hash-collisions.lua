-- must: answer ok
-- Long strings are hashed by a sample of their bytes: many that collide must still end in time.
local t = {}
for i = 1, 3000 do t[string.rep("x", 40) .. string.format("%05d", i) .. string.rep("x", 200)] = i end
local n = 0 for _ in pairs(t) do n = n + 1 end
return n == 3000 and "ok"
