-- must: memory
local t = {}
for i = 1, 4096 do t[i] = string.rep("x", 1 << 20) .. i end
return #t
