-- must: answer ok
local t = {} for i = 1, 70000 do t[i] = "'" .. i .. "'" end
return #load("return {" .. table.concat(t, ",") .. "}")() == 70000 and "ok"
