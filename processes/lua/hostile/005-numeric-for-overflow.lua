-- must: answer wrapped
for i = math.maxinteger - 1, math.huge do if i < 0 then return "wrapped" end end
