-- must: memory
-- Catching the error keeps what was made: the next allocation fails again, and at last the text cannot be made either.
local keep = {}
local function fill() for i = #keep + 1, math.huge do keep[i] = { tostring(i) } end end
while true do
  local ok, why = pcall(fill)
  if not ok and #keep > 100 then error(why, 0) end
end
