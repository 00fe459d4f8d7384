-- must: answer ok
-- Every function of the environment with every kind of bad argument: errors, never a trap.
local values = { n = 12, nil, true, 0, -1, 1.5, 0/0, "", "x", {}, print, coroutine.create(print), math.mininteger }
local skip = { [print] = true, [coroutine.yield] = true, [error] = true, [collectgarbage] = true, [require("weft").lines] = true }
local seen = {}
local function visit(t)
  if seen[t] then return end
  seen[t] = true
  for _, f in pairs(t) do
    if type(f) == "table" then visit(f)
    elseif type(f) == "function" and not skip[f] and not seen[f] then
      seen[f] = true
      for i = 1, values.n do for j = 1, values.n do pcall(coroutine.wrap(f), values[i], values[j]) end end
    end
  end
end
local libraries = { string, table, math, utf8, os, debug, bit32, require("json"), require(".base64"), require(".bint")(64) }
package.loaded._G = nil
for _, t in ipairs(libraries) do visit(t) end
return "ok"
