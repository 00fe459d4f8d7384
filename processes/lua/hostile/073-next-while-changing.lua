-- must: answer ok
local t = {} for i = 1, 100 do t["k" .. i] = i end
local ok = pcall(function() for k in pairs(t) do t[k] = nil for i = 1, 50 do t["n" .. i .. k] = 1 end if #k > 2000 then break end end end)
return "ok"
