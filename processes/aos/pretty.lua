--- Tables as an indented outline, one `key: value` a line. Not `.stringify`: no colours, no braces.

local pretty = { _version = "0.0.1" }

--- The outline of a table; every level is `indent` spaces deeper by one.
function pretty.tprint(tbl, indent)
  indent = indent or 0
  local text, pad = "", string.rep(" ", indent)
  for k, v in pairs(tbl) do
    text = text .. pad .. k .. ": "
    if type(v) == "table" then
      text = text .. "\n" .. pretty.tprint(v, indent + 1)
    elseif type(v) == "boolean" then
      text = text .. tostring(v) .. "\n"
    else
      text = text .. v .. "\n"
    end
  end
  return text
end

return pretty
