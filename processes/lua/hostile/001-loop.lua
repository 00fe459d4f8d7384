-- must: gas
while true do end
