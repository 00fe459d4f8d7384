-- must: gas
local text = string.rep("(", 200000)
return string.find(text, "%b()x")
