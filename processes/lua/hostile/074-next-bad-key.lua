-- must: error invalid key
return next({}, "missing")
