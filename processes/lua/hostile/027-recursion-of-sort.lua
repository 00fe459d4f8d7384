-- must: error C stack overflow
local function compare() table.sort({ 3, 2, 1 }, compare) return true end
table.sort({ 3, 2, 1 }, compare)
