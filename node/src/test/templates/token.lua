-- {{name}}: a fungible token. Amounts are whole numbers of the smallest unit, written as text.
-- Load it: .load {{name}}.lua

local bint = require(".bint")(256)

Ticker = Ticker or "{{TICKER}}"
Denomination = Denomination or 12
Balances = Balances or { [Owner] = "1000000" }

local function balance_of(account)
  return bint(Balances[account] or "0")
end

--- The amount a message names, or nil and why not. `0` moves nothing and is refused.
local function amount_of(msg)
  local text = msg.Tags.Quantity
  if type(text) ~= "string" or not text:find("^%d+$") or #text > 76 then
    return nil, "Quantity must be a whole number"
  end
  local amount = bint(text)
  if not bint.ult(bint.zero(), amount) then return nil, "Quantity must be greater than zero" end
  return amount
end

local function refuse(msg, why)
  msg.reply({ Action = msg.Tags.Action .. "-Error", Error = why })
end

Handlers.add("info", "Info", function(msg)
  msg.reply({ Name = "{{name}}", Ticker = Ticker, Denomination = tostring(Denomination) })
end)

Handlers.add("balance", "Balance", function(msg)
  local account = msg.Tags.Recipient or msg.From
  msg.reply({ Account = account, Balance = tostring(balance_of(account)), Ticker = Ticker })
end)

Handlers.add("transfer", "Transfer", function(msg)
  local recipient = msg.Tags.Recipient
  if type(recipient) ~= "string" or recipient == "" then return refuse(msg, "Recipient is missing") end
  local amount, why = amount_of(msg)
  if not amount then return refuse(msg, why) end
  if bint.ult(balance_of(msg.From), amount) then return refuse(msg, "Insufficient balance") end
  -- Taken before given: a transfer to oneself must change nothing.
  Balances[msg.From] = tostring(balance_of(msg.From) - amount)
  Balances[recipient] = tostring(balance_of(recipient) + amount)
  msg.reply({ Action = "Debit-Notice", Recipient = recipient, Quantity = tostring(amount) })
  Send({ Target = recipient, Action = "Credit-Notice", Sender = msg.From, Quantity = tostring(amount) })
end)

Handlers.add("mint", "Mint", function(msg)
  if msg.From ~= Owner then return refuse(msg, "Only the owner may mint") end
  local amount, why = amount_of(msg)
  if not amount then return refuse(msg, why) end
  local recipient = msg.Tags.Recipient or msg.From
  Balances[recipient] = tostring(balance_of(recipient) + amount)
  msg.reply({ Action = "Mint-Notice", Recipient = recipient, Quantity = tostring(amount) })
end)
