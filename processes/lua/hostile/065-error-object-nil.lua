-- must: error nil
error(nil)
