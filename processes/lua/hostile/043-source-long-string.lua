-- must: answer ok
return #load("return [" .. string.rep("=", 10000) .. "[x]" .. string.rep("=", 10000) .. "]")() == 1 and "ok"
