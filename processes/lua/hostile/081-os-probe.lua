-- must: answer clock date difftime getenv time
local names = {} for name in pairs(os) do names[#names + 1] = name end
table.sort(names)
assert(os.getenv("HOME") == nil and os.clock() == 0)
return table.concat(names, " ")
