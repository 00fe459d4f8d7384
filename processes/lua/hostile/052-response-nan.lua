-- must: error unexpected number value
return { 0 / 0 }
