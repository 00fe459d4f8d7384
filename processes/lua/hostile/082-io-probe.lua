-- must: answer nil nil nil nil nil
return table.concat({ tostring(io), tostring(dofile), tostring(loadfile), tostring(package.loadlib), tostring(package.searchers) }, " ")
