-- must: gas
-- Whoever catches the abort must not go on.
while true do pcall(function() while true do end end) end
