-- must: answer ok
assert(getmetatable("") == false)
assert(not pcall(setmetatable, "", {}))
assert(debug.setmetatable == nil and debug.getmetatable == nil)
return ("ok"):rep(1)
