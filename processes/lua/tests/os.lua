-- os: time from the message alone.
assert(os.time() == 1700000000123 and math.type(os.time()) == "integer")
assert(os.date() == "Tue Nov 14 22:13:20 2023" and os.date("!%c") == os.date())
assert(os.date("%Y-%m-%d %H:%M:%S", 0) == "1970-01-01 00:00:00" and os.date("%F %T", -1) == "1969-12-31 23:59:59")
assert(os.date("%a %A %b %B %h %d %e %D", 951782400) == "Tue Tuesday Feb February Feb 29 29 02/29/00")
assert(os.date("%H %I %p %M %S %R %r %X %x", 951782400 + 15 * 3600 + 61) == "15 03 PM 01 01 15:01 03:01:01 PM 15:01:01 02/29/00")
assert(os.date("%C %y %Y %j %u %w %Z %z %% %n %t", 951782400) == "20 00 2000 060 2 2 UTC +0000 % \n \t")
assert(os.date("%Ey %Od", 951782400) == "00 29")
-- Weeks at the edges of years: by Sunday, by Monday, ISO.
local function weeks(year, month, day) return os.date("%U %W %G %g %V", os.time({ year = year, month = month, day = day })) end
assert(weeks(2021, 1, 1) == "00 00 2020 20 53" and weeks(2020, 12, 31) == "52 52 2020 20 53" and weeks(2018, 12, 31) == "52 53 2019 19 01")
assert(weeks(2023, 1, 1) == "01 00 2022 22 52" and weeks(2024, 2, 29) == "08 09 2024 24 09" and weeks(2012, 1, 1) == "01 00 2011 11 52")

-- A table to seconds, its fields normalised as C's mktime does.
local t = { year = 2024, month = 14, day = -3, hour = 25, min = 61, sec = 61 }
assert(os.time(t) == 1738116121, os.time(t))
assert(t.year == 2025 and t.month == 1 and t.day == 29 and t.hour == 2 and t.min == 2 and t.sec == 1 and t.wday == 4 and t.yday == 29 and t.isdst == false)
assert(os.time({ year = 2000, month = 1, day = 1 }) == 946728000, "noon when no hour is given")
for _, seconds in ipairs({ 0, 1, -1, 86399, 86400, 951782400, 4102444799, -62135596800, 253402300799, 1700000000 }) do
  local fields = os.date("*t", seconds)
  assert(os.time(fields) == seconds, seconds)
  assert(fields.isdst == false and os.date("!*t", seconds).year == fields.year)
end
local function refused(text, f, ...)
  local ok, why = pcall(f, ...)
  assert(not ok and why:find(text, 1, true), why)
end
refused("field 'day' missing in date table", os.time, {})
refused("field 'month' missing in date table", os.time, { day = 1 })
refused("field 'day' is not an integer", os.time, { day = "x", month = 1, year = 2000 })
refused("field 'day' is not an integer", os.time, { day = 1.5, month = 1, year = 2000 })
refused("field 'year' is out-of-bound", os.time, { day = 1, month = 1, year = 1 << 40 })
refused("invalid conversion specifier '%Q'", os.date, "%Q")
refused("invalid conversion specifier '%Ez'", os.date, "%Ez")
refused("cannot be represented", os.date, "%c", math.maxinteger)

assert(os.clock() == 0 and os.getenv("PATH") == nil and os.difftime(5, 3) == 2.0)
local weft = require("weft")
assert(weft.now() == 1700000000123 and weft.now(5000) == 5000 and os.time() == 5000 and os.date("%S") == "05")
return "ok"
