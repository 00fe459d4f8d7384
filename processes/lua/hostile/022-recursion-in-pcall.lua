-- must: answer ok
-- Errors of exhausted C levels are caught, level by level, and nothing is lost.
local depth = 0
local function down() depth = depth + 1 return pcall(down) end
down()
return depth > 100 and depth < 300 and "ok" or tostring(depth)
