-- must: answer ok
-- Inconsistent comparators may be refused or give any order, but never read outside of the table.
local seed = 1
local function random() seed = (seed * 1103515245 + 12345) % 2147483648 return seed end
for round = 1, 200 do
  local t = {} for i = 1, round do t[i] = random() end
  pcall(table.sort, t, function() return random() % 2 == 0 end)
  pcall(table.sort, t, function() return true end)
  assert(#t == round)
end
return "ok"
