--- What a process does with its own item, the first message of its log: `On-Boot = Data` evaluates the item's data.
-- Not the reading of other items: an `On-Boot` that names one is an error here, as nothing can fetch it.

local eval = require(".eval")

--- A handle for the process's own item.
return function(ao)
  local evaluate = eval(ao)
  return function(msg)
    local on_boot = msg.Tags["On-Boot"] or "NODATA"
    if on_boot == "Data" then
      evaluate(msg)
    elseif on_boot ~= "NODATA" then
      error("On-Boot = " .. on_boot .. ": this process can only boot from its own Data")
    end
  end
end
