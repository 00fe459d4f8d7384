-- must: answer nil
return tostring(load("return os", "x", "t", {})())
