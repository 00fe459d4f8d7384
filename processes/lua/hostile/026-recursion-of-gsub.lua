-- must: error C stack overflow
local function again(s) return (s:gsub(".", again)) end
return again("x")
