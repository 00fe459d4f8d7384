-- Staking: holders lock tokens for a number of blocks; what they unstake comes back when its height is reached.
-- Works on Balances, so it belongs into a process that has the token blueprint loaded.
-- Actions and answers are in README.md. What it is not: a reward scheme; nothing is minted here.
-- Tokens move between Balances, Stakers and Unstaking and none is lost: the three sum up to the supply.

local bint = require(".bint")(256)
local json = require("json")

local DELAY_BLOCKS_MAX = 10000000

-- ---- state ----

-- address -> string of digits
Balances = Balances or {}
-- address -> { amount = string of digits, unstake_at = block height }
Stakers = Stakers or {}
-- address -> { amount = string of digits, release_at = block height }
Unstaking = Unstaking or {}

-- ---- reading messages ----

-- The amount that a tag holds, or nil and what is wrong with it.
local function amountOf(text)
  if text == nil then return nil, "Quantity is required!" end
  local digits = tostring(text):gsub("^0+(%d)", "%1")
  if not digits:find("^%d+$") then return nil, "Quantity must be a whole number in digits, got '" .. digits .. "'" end
  if digits == "0" then return nil, "Quantity must be greater than 0" end
  if #digits > 76 then return nil, "Quantity must have at most 76 digits, got " .. #digits end
  return bint(digits)
end

-- The environment spells a tag UnstakeDelay as Unstakedelay.
local function delayOf(msg)
  local text = msg.Unstakedelay or msg["Unstake-Delay"]
  local blocks = math.tointeger(tonumber(text))
  if not blocks or blocks < 0 or blocks > DELAY_BLOCKS_MAX then
    local wanted = "UnstakeDelay must be a number of blocks from 0 to %d, got '%s'"
    return nil, wanted:format(DELAY_BLOCKS_MAX, tostring(text))
  end
  return blocks
end

local function heightOf(msg) return math.tointeger(tonumber(msg["Block-Height"])) or 0 end

-- ---- answers ----

local function refuse(msg, action, text)
  msg.reply({ Action = action, ["Message-Id"] = msg.Id, Error = text })
end

-- ---- actions ----

local function stake(msg)
  local amount, problem = amountOf(msg.Quantity)
  if not amount then return refuse(msg, "Stake-Error", problem) end
  local delay, wrong = delayOf(msg)
  if not delay then return refuse(msg, "Stake-Error", wrong) end
  local balance = bint(Balances[msg.From] or "0")
  if balance < amount then return refuse(msg, "Stake-Error", "Insufficient balance to stake") end
  local staker = Stakers[msg.From] or { amount = "0", unstake_at = 0 }
  Balances[msg.From] = tostring(balance - amount)
  staker.amount = tostring(bint(staker.amount) + amount)
  staker.unstake_at = math.max(staker.unstake_at, heightOf(msg) + delay)
  Stakers[msg.From] = staker
  msg.reply({
    Action = "Stake-Notice",
    Quantity = tostring(amount),
    Staked = staker.amount,
    ["Unstake-At"] = tostring(staker.unstake_at),
    Data = "Staked " .. tostring(amount),
  })
end

-- What is on its way already waits for the later of the two heights.
local function startRelease(address, amount, height)
  local pending = Unstaking[address] or { amount = "0", release_at = 0 }
  pending.amount = tostring(bint(pending.amount) + amount)
  pending.release_at = math.max(pending.release_at, height)
  Unstaking[address] = pending
  return pending
end

local function unstake(msg)
  local amount, problem = amountOf(msg.Quantity)
  if not amount then return refuse(msg, "Unstake-Error", problem) end
  local staker = Stakers[msg.From]
  if not staker or bint(staker.amount) < amount then
    return refuse(msg, "Unstake-Error", "Insufficient staked amount")
  end
  local left = bint(staker.amount) - amount
  staker.amount = tostring(left)
  if bint.iszero(left) then Stakers[msg.From] = nil end
  local pending = startRelease(msg.From, amount, staker.unstake_at)
  msg.reply({
    Action = "Unstake-Notice",
    Quantity = tostring(amount),
    Staked = tostring(left),
    ["Release-At"] = tostring(pending.release_at),
    Data = "Unstaking " .. tostring(amount),
  })
end

local function getStake(msg)
  local account = msg.Tags.Recipient or msg.Tags.Target or msg.From
  local staker, pending = Stakers[account] or {}, Unstaking[account] or {}
  msg.reply({
    Action = "Stake-Info",
    Account = account,
    Staked = staker.amount or "0",
    ["Unstake-At"] = tostring(staker.unstake_at or 0),
    Unstaking = pending.amount or "0",
    ["Release-At"] = tostring(pending.release_at or 0),
    Data = staker.amount or "0",
  })
end

local function stakers(msg) msg.reply({ Action = "Staker-List", Data = json.encode(Stakers) }) end

-- ---- release, with every message ----

local function due(height)
  local addresses = {}
  for address, pending in pairs(Unstaking) do
    if height >= pending.release_at then addresses[#addresses + 1] = address end
  end
  table.sort(addresses)
  return addresses
end

local function release(msg)
  for _, address in ipairs(due(heightOf(msg))) do
    local amount = Unstaking[address].amount
    Unstaking[address] = nil
    Balances[address] = tostring(bint(Balances[address] or "0") + bint(amount))
    Send({ Target = address, Action = "Release-Notice", Quantity = amount, Data = "Released " .. amount })
  end
end

local function on(name, action, handle)
  Handlers.add(name, Handlers.utils.hasMatchingTag("Action", action), handle)
end

Handlers.prepend("staking-release", function() return "continue" end, release)
on("stake", "Stake", stake)
on("unstake", "Unstake", unstake)
on("getStake", "Get-Stake", getStake)
on("stakers", "Stakers", stakers)
