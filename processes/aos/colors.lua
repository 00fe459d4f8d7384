--- The terminal colours of the global `Colors`. Not the pretty-printer: see `.stringify`.

return {
  red = "\27[31m",
  green = "\27[32m",
  blue = "\27[34m",
  reset = "\27[0m",
  gray = "\27[90m",
}
