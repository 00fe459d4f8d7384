-- must: gas
return string.find(string.rep("a", 50), string.rep("a-", 8) .. string.rep("a*", 12) .. "b")
