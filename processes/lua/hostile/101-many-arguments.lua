-- must: error
return (function(...) return select("#", ...) end)(table.unpack({}, 1, 999999))
