-- must: error stack overflow
-- Deep nesting and a metamethod that encodes deep nesting, and so on: no level of either may cost C stack.
local json = require("json")
local function nest()
  local t = setmetatable({ x = 1 }, { __pairs = function() return next, { a = json.encode(nest()) }, nil end })
  for i = 1, 2000 do t = { t } end
  return t
end
return json.encode(nest())
