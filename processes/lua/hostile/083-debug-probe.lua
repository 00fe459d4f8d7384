-- must: answer getinfo getlocal getupvalue traceback
local names = {} for name in pairs(debug) do names[#names + 1] = name end
table.sort(names)
return table.concat(names, " ")
