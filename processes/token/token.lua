-- A token: balances, transfers with notices, minting by the owner, burning.
-- Speaks the ao token standard; actions and answers are in README.md.
-- What it is not: a subledger, and no faucet. Balances are whole numbers, kept as strings of digits.
-- The sum of all balances is TotalSupply at any time.

local bint = require(".bint")(256)
local json = require("json")

-- 10^76 - 1 is the largest amount: two of them still add up within 256 bits.
local QUANTITY_DIGITS_MAX = 76
local ADDRESS_BYTES_MAX = 128

-- ---- state: what is set already stays ----

-- What the process was spawned with.
local tags = ao.env.Process.Tags

Name = Name or tags.Name or "Points Coin"
Ticker = Ticker or tags.Ticker or "PNTS"
Logo = Logo or tags.Logo or "SBCCXwwecBlDqRLUjb8dYABExTJXLieawf7m2aBJ-KY"
Denomination = Denomination or math.tointeger(tonumber(tags.Denomination)) or 12
Balances = Balances or { [ao.id] = "10000" .. ("0"):rep(Denomination) }

local function sumOfBalances()
  local sum = bint.zero()
  for _, balance in pairs(Balances) do sum = sum + bint(balance) end
  return tostring(sum)
end

TotalSupply = TotalSupply or sumOfBalances()

-- ---- amounts ----

-- The amount that a tag holds, or nil and what is wrong with it.
local function amountOf(text)
  if text == nil then return nil, "Quantity is required!" end
  local digits = tostring(text)
  if not digits:find("^%d+$") then return nil, "Quantity must be a whole number in digits, got '" .. digits .. "'" end
  digits = digits:gsub("^0+", "")
  if digits == "" then return nil, "Quantity must be greater than 0" end
  if #digits > QUANTITY_DIGITS_MAX then
    return nil, ("Quantity must have at most %d digits, got %d"):format(QUANTITY_DIGITS_MAX, #digits)
  end
  return bint(digits)
end

local function recipientOf(text)
  if type(text) ~= "string" or text == "" then return nil, "Recipient is required!" end
  if #text > ADDRESS_BYTES_MAX then
    return nil, ("Recipient must have at most %d bytes, got %d"):format(ADDRESS_BYTES_MAX, #text)
  end
  return text
end

local function balanceOf(account) return bint(Balances[account] or "0") end

local function setBalance(account, amount) Balances[account] = tostring(amount) end

-- ---- answers ----

local function refuse(msg, action, text)
  msg.reply({ Action = action, ["Message-Id"] = msg.Id, Error = text })
end

local function coloured(before, quantity, between, account)
  local text = Colors.gray .. before .. Colors.blue .. quantity
  if account then text = text .. Colors.gray .. between .. Colors.green .. account end
  return text .. Colors.reset
end

-- The tags that a transfer hands on to both notices.
local function forwarded(msg)
  local found = {}
  for name, value in pairs(msg.Tags) do
    if name:sub(1, 2) == "X-" then found[name] = value end
  end
  return found
end

local function notice(msg, fields)
  for name, value in pairs(forwarded(msg)) do fields[name] = value end
  return fields
end

local function sendNotices(msg, recipient, quantity)
  msg.reply(notice(msg, {
    Action = "Debit-Notice",
    Recipient = recipient,
    Quantity = quantity,
    Data = coloured("You transferred ", quantity, " to ", recipient),
  }))
  Send(notice(msg, {
    Target = recipient,
    Action = "Credit-Notice",
    Sender = msg.From,
    Quantity = quantity,
    Data = coloured("You received ", quantity, " from ", msg.From),
  }))
end

-- ---- actions ----

local function info(msg)
  msg.reply({
    Name = Name,
    Ticker = Ticker,
    Logo = Logo,
    Denomination = tostring(Denomination),
  })
end

local function balance(msg)
  local account = msg.Tags.Recipient or msg.Tags.Target or msg.From
  local amount = Balances[account] or "0"
  msg.reply({ Balance = amount, Ticker = Ticker, Account = account, Data = amount })
end

local function balances(msg) msg.reply({ Data = json.encode(Balances) }) end

local function transfer(msg)
  local recipient, nobody = recipientOf(msg.Recipient)
  if not recipient then return refuse(msg, "Transfer-Error", nobody) end
  local amount, problem = amountOf(msg.Quantity)
  if not amount then return refuse(msg, "Transfer-Error", problem) end
  if balanceOf(msg.From) < amount then return refuse(msg, "Transfer-Error", "Insufficient Balance!") end
  setBalance(msg.From, balanceOf(msg.From) - amount)
  setBalance(recipient, balanceOf(recipient) + amount)
  if not msg.Cast then sendNotices(msg, recipient, tostring(amount)) end
end

local function mint(msg)
  if msg.From ~= Owner and msg.From ~= ao.id then
    return refuse(msg, "Mint-Error", "Only the Process Owner can mint new " .. Ticker .. " tokens!")
  end
  local amount, problem = amountOf(msg.Quantity)
  if not amount then return refuse(msg, "Mint-Error", problem) end
  local supply = tostring(bint(TotalSupply) + amount)
  if #supply > QUANTITY_DIGITS_MAX then
    return refuse(msg, "Mint-Error", "The total supply would have more than 76 digits")
  end
  TotalSupply = supply
  setBalance(msg.From, balanceOf(msg.From) + amount)
  msg.reply({ Quantity = tostring(amount), Data = coloured("Successfully minted ", tostring(amount)) })
end

local function burn(msg)
  local amount, problem = amountOf(msg.Quantity)
  if not amount then return refuse(msg, "Burn-Error", problem) end
  if balanceOf(msg.From) < amount then return refuse(msg, "Burn-Error", "Insufficient Balance!") end
  setBalance(msg.From, balanceOf(msg.From) - amount)
  TotalSupply = tostring(bint(TotalSupply) - amount)
  msg.reply({ Quantity = tostring(amount), Data = coloured("Successfully burned ", tostring(amount)) })
end

local function totalSupply(msg)
  msg.reply({ Action = "Total-Supply", Ticker = Ticker, ["Total-Supply"] = TotalSupply, Data = TotalSupply })
end

local function on(name, action, handle)
  Handlers.add(name, Handlers.utils.hasMatchingTag("Action", action), handle)
end

on("info", "Info", info)
on("balance", "Balance", balance)
on("balances", "Balances", balances)
on("transfer", "Transfer", transfer)
on("mint", "Mint", mint)
on("burn", "Burn", burn)
on("totalSupply", "Total-Supply", totalSupply)
on("getTotalSupply", "Get-Total-Supply", totalSupply)
