-- must: memory
local s = "aaaaaaaa"
while true do s = s:gsub("a", "aaaaaaaa") end
