-- must: answer ok
for _, t in ipairs({ 0, -1, 2^53 // 1 | 0, -(2^53 // 1 | 0), 67768036191676799, -67768040609740800 }) do os.date("!%c %G %V %U %j", t) os.date("*t", t) end
assert(not pcall(os.date, "%c", math.maxinteger) and not pcall(os.date, "%Q") and not pcall(os.date, "%") and not pcall(os.date, "%E"))
assert(not pcall(os.time, {}) and not pcall(os.time, { year = 1e300, month = 1, day = 1 }) and os.time({ year = 1970, month = 1, day = 1, hour = 0 }) == 0)
os.time({ year = 1073741823, month = -1073741823, day = 1073741823, hour = 1073741823, min = 1073741823, sec = 1073741823 })
return "ok"
