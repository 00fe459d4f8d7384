-- must: gas
xpcall(error, function() while true do end end)
