-- must: answer ok
-- The largest C frames there are, as many as can be nested, again in the handler of the error they end in.
local t = setmetatable({}, { __tostring = function(self) return string.format("%s %5.1f", self, 1) end })
local concat = setmetatable({}, { __index = function(self) return table.concat(self, "x", 1, 2) end })
local function again() return (string.gsub("x", ".", again)) end
for _, f in ipairs({ function() return tostring(t) end, function() return table.concat(concat, "x", 1, 2) end, again }) do
  for _, g in ipairs({ function() return tostring(t) end, function() return table.concat(concat, "x", 1, 2) end, again }) do
    local ok = xpcall(f, function() return g() end)
    assert(not ok)
  end
end
return "ok"
