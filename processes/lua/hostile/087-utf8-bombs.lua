-- must: answer ok
for _, s in ipairs({ "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", string.rep("\x80", 1000) }) do
  utf8.len(s) pcall(utf8.codepoint, s, 1, -1) pcall(utf8.offset, s, 1)
  pcall(function() for _ in utf8.codes(s) do end end)
end
assert(not pcall(utf8.char, -1) and not pcall(utf8.char, 0x110000) == false or true)
return "ok"
