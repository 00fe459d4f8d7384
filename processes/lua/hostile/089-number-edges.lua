-- must: answer ok
assert(math.mininteger // -1 == math.mininteger and math.mininteger % -1 == 0)
assert(not pcall(function() return 1 // 0 end) and not pcall(function() return 1 % 0 end))
assert(math.tointeger(2^53) == 2^53 and math.tointeger(2^63) == nil and math.tointeger(0/0) == nil)
assert(tostring(0/0) == "-nan" and tostring(-(0/0)) == "-nan" and tostring(-0.0) == "-0.0" and tostring(1e100) == "1e+100")
assert(string.format("%5.1f", 0/0) == " -nan" and string.format("%d", 3.0) == "3" and not pcall(string.format, "%d", 3.5))
assert(1 << 64 == 0 and 1 << -1 == 0 and math.ult(1, -1) and 5 // 0.0 == math.huge)
return "ok"
