-- must: error unexpected type
return { print }
