-- must: error position out of bounds
table.insert({}, 5, 1)
