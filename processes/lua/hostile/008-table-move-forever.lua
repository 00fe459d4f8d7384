-- must: gas
return table.move({}, 1, 2^40 // 1 | 0, 2)
