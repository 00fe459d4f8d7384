-- must: answer ok
-- The glue's own calls do not go through globals.
pcall, error, tostring, type, next, pairs, select, setmetatable, rawget = nil
string, table, math, json, os = nil
_G.load = nil
setmetatable = nil
return "ok"
