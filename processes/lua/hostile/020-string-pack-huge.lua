-- must: error
return string.pack("s1", string.rep("x", 300))
