-- must: answer ok
for level = -5, 300 do pcall(debug.getinfo, level) pcall(debug.getlocal, level, 1) end
for _, what in ipairs({ "", "n", "S", "l", "u", "f", "L", "t", "nSlutfL" }) do assert(debug.getinfo(print, what)) end
assert(not pcall(debug.getinfo, 1, ">") and not pcall(debug.getinfo, 1, "X"))
return "ok"
