-- must: answer ok
assert(tonumber("0x" .. string.rep("f", 10000)) == -1 and tonumber(string.rep("9", 10000)) == math.huge)
assert(tonumber("1e" .. string.rep("9", 100)) == math.huge and tonumber("0x1p-1074") > 0 and tonumber("1" .. string.rep("0", 300)) == 1e300)
return "ok"
