-- must: answer ok
local t = {} for i = 1, 1000 do t[i] = (i * 7919) % 1000 end
pcall(table.sort, t, function(a, b) for i = 1, 1000 do t[i] = nil end return (a or 0) < (b or 0) end)
return "ok"
