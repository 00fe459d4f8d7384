-- An arena: rounds of a grid game in which those who paid move, gather energy and attack until one is left
-- or time is up. Stakes go to whoever eliminates, the rest and the bonus to the survivors.
-- Actions, answers and the functions to build another game on are in README.md.
-- What it is not: a clock. Timers move with messages: give the process a cron, or send it Tick.
-- Tokens held for players are paid out or kept for the next round, never both.

local bint = require(".bint")(256)
local json = require("json")

-- Every announcement costs one message per listener.
local LISTENERS_MAX = 1000
local PLAYERS_MAX = 1000

-- ---- state: what is set already stays ----

-- "Not-Started", "Waiting" or "Playing".
GameMode = GameMode or "Not-Started"
-- When the mode ends, and the time of the last message: milliseconds.
StateChangeTime = StateChangeTime or 0
Now = Now or 0
WaitTime = WaitTime or 2 * 60 * 1000
GameTime = GameTime or 20 * 60 * 1000

-- The token of stakes: its process, what a seat costs, what the builder adds to every round's pot.
PaymentToken = PaymentToken or ao.id
PaymentQty = PaymentQty or "1"
BonusQty = BonusQty or "0"
-- What was bet on the current round, and what RequestTokens gives away once per address ("0": nothing).
Bets = Bets or "0"
FaucetQty = FaucetQty or "0"
Requested = Requested or {}

-- address -> whether it paid for the next round
Waiting = Waiting or {}
-- address -> { x, y, health, energy }
Players = Players or {}
Listeners = Listeners or {}
MinimumPlayers = MinimumPlayers or 2
-- How many were left at the end of the last round.
Winners = Winners or 0

-- The built-in game.
Width = Width or 40
Height = Height or 40
Range = Range or 1
MaxEnergy = MaxEnergy or 100
EnergyPerSec = EnergyPerSec or 1
-- A hit with full energy takes on average this part of full health: one third.
AverageMaxStrengthHitsToKill = AverageMaxStrengthHitsToKill or 3
-- The time up to which energy has been given out.
LastTick = LastTick or 0

local DIRECTIONS = {
  Up = { 0, -1 }, Down = { 0, 1 }, Left = { -1, 0 }, Right = { 1, 0 },
  UpRight = { 1, -1 }, UpLeft = { -1, -1 }, DownRight = { 1, 1 }, DownLeft = { -1, 1 },
}

-- ---- small things ----

-- Messages go out in one order on every node.
local function sortedKeys(set)
  local keys = {}
  for key in pairs(set) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function sizeOf(set) return #sortedKeys(set) end

local function refuse(msg, action, reason)
  msg.reply({ Action = action, ["Message-Id"] = msg.Id, Error = reason, Reason = reason })
end

-- An amount as the builder may set it: digits or a number.
local function amountOf(quantity) return bint(math.tointeger(tonumber(quantity)) or quantity) end

local function digitsOf(text)
  return type(text) == "string" and #text <= 76 and text:match("^%d+$") or nil
end

-- ---- the framework: for builders to call ----

-- Tells every listener.
function announce(event, description)
  for _, listener in ipairs(Listeners) do
    Send({ Target = listener, Action = "Announcement", Event = event, Data = description })
  end
end

-- Pays out of the arena's own balance; nothing is sent for zero.
function sendReward(recipient, quantity, reason)
  local amount = amountOf(quantity)
  if not bint.ispos(amount) then return end
  Send({
    Target = PaymentToken,
    Action = "Transfer",
    Recipient = recipient,
    Quantity = tostring(amount),
    Reason = reason,
  })
end

function removeListener(listener)
  for i, address in ipairs(Listeners) do
    if address == listener then return table.remove(Listeners, i) end
  end
end

-- Where a player starts. Define your own before loading to play another game.
playerInitState = playerInitState or function()
  return { x = math.random(1, Width), y = math.random(1, Height), health = 100, energy = 0 }
end

-- What time does to players while a round is played: whole seconds give energy.
onTick = onTick or function()
  local seconds = (Now - LastTick) // 1000
  if seconds < 1 then return end
  LastTick = LastTick + seconds * 1000
  for _, player in pairs(Players) do
    player.energy = math.min(MaxEnergy, player.energy + seconds * EnergyPerSec)
  end
end

function startWaitingPeriod()
  GameMode = "Waiting"
  StateChangeTime = Now + WaitTime
  announce("Started-Waiting-Period", "The game is about to begin! Send your token to take part.")
end

local function refundAll()
  for _, address in ipairs(sortedKeys(Waiting)) do
    if Waiting[address] then
      Waiting[address] = false
      sendReward(address, PaymentQty, "Refund")
    end
  end
end

local function eject(address)
  Waiting[address] = nil
  removeListener(address)
  Send({ Target = address, Action = "Ejected", Reason = "Did-Not-Pay" })
end

local function seatAll()
  for _, address in ipairs(sortedKeys(Waiting)) do
    if Waiting[address] then
      Waiting[address] = false
      Players[address] = playerInitState()
    else
      eject(address)
    end
  end
end

local function paidCount()
  local count = 0
  for _, paid in pairs(Waiting) do count = count + (paid and 1 or 0) end
  return count
end

function startGamePeriod()
  if paidCount() < MinimumPlayers then
    announce("Not-Enough-Players", "Not enough players registered! Restarting...")
    refundAll()
    return startWaitingPeriod()
  end
  GameMode = "Playing"
  StateChangeTime = Now + GameTime
  LastTick = Now
  announce("Started-Game", "The game has started. Good luck!")
  seatAll()
end

-- Survivors get their stakes back and share the bonus and the bets; what does not divide stays a bet.
function endGame()
  local winners = sortedKeys(Players)
  Winners = #winners
  local pot = amountOf(BonusQty) + bint(Bets)
  if Winners > 0 then
    local share, rest = bint.udivmod(pot, Winners)
    Bets = tostring(rest)
    for _, address in ipairs(winners) do
      sendReward(address, share + amountOf(PaymentQty), "Win")
      Waiting[address] = Waiting[address] or false
    end
  end
  Players = {}
  announce("Game-Ended", "Congratulations! The game has ended. Remaining players at conclusion: " .. Winners .. ".")
  startWaitingPeriod()
end

-- The eliminator gets the stake of the eliminated, who waits for the next round.
function eliminatePlayer(eliminated, eliminator)
  if not Players[eliminated] then return end
  Players[eliminated] = nil
  Waiting[eliminated] = Waiting[eliminated] or false
  sendReward(eliminator, PaymentQty, "Eliminated-Player")
  Send({ Target = eliminated, Action = "Eliminated", Eliminator = eliminator })
  announce("Player-Eliminated", eliminated .. " was eliminated by " .. eliminator .. "!")
  if sizeOf(Players) < MinimumPlayers then endGame() end
end

-- ---- timers, with every message ----

local function turnTimers(msg)
  Now = math.max(Now, math.tointeger(tonumber(msg.Timestamp)) or Now)
  if GameMode == "Not-Started" then return startWaitingPeriod() end
  if GameMode == "Playing" then onTick() end
  if Now <= StateChangeTime then return end
  if GameMode == "Waiting" then startGamePeriod() else endGame() end
end

-- ---- joining and paying ----

local function register(msg)
  if #Listeners >= LISTENERS_MAX then
    return refuse(msg, "Register-Error", ("The arena is full: it has %d listeners"):format(#Listeners))
  end
  if msg.Mode ~= "Listen" and Waiting[msg.From] == nil then
    if sizeOf(Waiting) >= PLAYERS_MAX then
      return refuse(msg, "Register-Error", ("No more than %d may wait for a round"):format(PLAYERS_MAX))
    end
    Waiting[msg.From] = false
  end
  removeListener(msg.From)
  table.insert(Listeners, msg.From)
  msg.reply({ Action = "Registered" })
  announce("New Player Registered", msg.From .. " has joined in waiting.")
end

-- Who paid for a seat and leaves before the round gets the stake back; who plays stays in the round.
local function unregister(msg)
  removeListener(msg.From)
  if Waiting[msg.From] then sendReward(msg.From, PaymentQty, "Refund") end
  Waiting[msg.From] = nil
  msg.reply({ Action = "Unregistered" })
end

local function addBet(sender, quantity)
  Bets = tostring(bint(Bets) + bint(quantity))
  announce("Bet-Added", sender .. " has placed a bet. The pot grew by " .. quantity .. "!")
end

-- A seat for the next round. Too little, too much or twice: the difference goes back.
local function pay(sender, quantity)
  local paid, price = bint(quantity), amountOf(PaymentQty)
  if paid < price or Waiting[sender] then return sendReward(sender, quantity, "Refund") end
  sendReward(sender, paid - price, "Refund")
  Waiting[sender] = true
  Send({ Target = sender, Action = "Payment-Received" })
  announce("Player-Ready", sender .. " is ready to play!")
end

local function isPayment(msg) return msg.Action == "Credit-Notice" and msg.From == PaymentToken end

local function credit(msg)
  local quantity, sender = digitsOf(msg.Quantity), msg.Sender
  -- What the arena holds for itself (its own refunds in its own token) is not a seat.
  if not quantity or not sender or sender == ao.id then return end
  if msg["X-Reason"] == "AddBet" then return addBet(sender, quantity) end
  pay(sender, quantity)
end

-- The token's receipt for what the arena paid: seen, nothing to do. It would fill the inbox.
local function isReceipt(msg) return msg.Action == "Debit-Notice" and msg.From == PaymentToken end

local function ignore() end

local function requestTokens(msg)
  if not bint.ispos(amountOf(FaucetQty)) then
    return refuse(msg, "RequestTokens-Error", "This arena gives no tokens away")
  end
  if Requested[msg.From] then return refuse(msg, "RequestTokens-Error", "You have had your tokens") end
  Requested[msg.From] = true
  sendReward(msg.From, FaucetQty, "Token Request")
  msg.reply({ Action = "Tokens-Granted", Quantity = tostring(FaucetQty) })
end

-- ---- what players ask ----

local function timeRemaining() return math.max(0, StateChangeTime - Now) end

local function getGameState(msg)
  local state = { GameMode = GameMode, TimeRemaining = timeRemaining(), Players = Players }
  msg.reply({ Action = "GameState", Data = json.encode(state) })
end

local function tick()
  local seconds = tostring(timeRemaining() // 1000)
  if GameMode == "Waiting" then announce("Tick", "The game will start in " .. seconds .. " seconds.") end
  if GameMode == "Playing" then announce("Tick", "The game will end in " .. seconds .. " seconds.") end
end

-- ---- what players do ----

-- The acting player, or nil after an answer that says why not.
local function acting(msg, failed)
  if GameMode ~= "Playing" then return refuse(msg, failed, "No round is being played.") end
  if msg.Player and msg.Player ~= msg.From then return refuse(msg, failed, "You can only act for yourself.") end
  if not Players[msg.From] then return refuse(msg, failed, "You are not playing in this round.") end
  return Players[msg.From]
end

local function wrap(place, size) return (place - 1) % size + 1 end

local function playerMove(msg)
  local player = acting(msg, "Move-Failed")
  if not player then return end
  local step = DIRECTIONS[msg.Direction]
  if not step then
    return refuse(msg, "Move-Failed", "Invalid direction. One of: " .. table.concat(sortedKeys(DIRECTIONS), ", "))
  end
  player.x, player.y = wrap(player.x + step[1], Width), wrap(player.y + step[2], Height)
  msg.reply({ Action = "Player-Moved", X = tostring(player.x), Y = tostring(player.y) })
  announce("Player-Moved", ("%s moved to %d,%d."):format(msg.From, player.x, player.y))
end

-- Distance along one side of a grid whose edges meet.
local function distance(a, b, size)
  local apart = math.abs(a - b)
  return math.min(apart, size - apart)
end

local function inRange(a, b)
  return distance(a.x, b.x, Width) <= Range and distance(a.y, b.y, Height) <= Range
end

local function damageOf(energy) return math.random(0, 2 * energy // AverageMaxStrengthHitsToKill) end

local function hit(attacker, target, damage)
  local player = Players[target]
  player.health = player.health - damage
  if player.health <= 0 then return eliminatePlayer(target, attacker) end
  local health = tostring(player.health)
  Send({ Target = target, Action = "Hit", Attacker = attacker, Damage = tostring(damage), Health = health })
  Send({ Target = attacker, Action = "Successful-Hit", Recipient = target, Damage = tostring(damage), Health = health })
end

-- The environment spells a tag AttackEnergy as Attackenergy.
local function energyOf(msg, player)
  local text = msg.Attackenergy or msg["Attack-Energy"]
  local energy = math.tointeger(tonumber(text))
  if not energy or energy < 1 then
    return nil, "AttackEnergy must be a whole number from 1, got '" .. tostring(text) .. "'."
  end
  if energy > player.energy then return nil, ("Not enough energy: you have %d."):format(player.energy) end
  return energy
end

local function playerAttack(msg)
  local player = acting(msg, "Attack-Failed")
  if not player then return end
  local energy, problem = energyOf(msg, player)
  if not energy then return refuse(msg, "Attack-Failed", problem) end
  player.energy = player.energy - energy
  local damage, hits = damageOf(energy), 0
  announce("Attack", msg.From .. " has launched a " .. damage .. " damage attack!")
  for _, target in ipairs(sortedKeys(Players)) do
    -- A kill may have ended the round: then there is nobody left to hit.
    if target ~= msg.From and Players[target] and inRange(player, Players[target]) then
      hits = hits + 1
      hit(msg.From, target, damage)
    end
  end
  msg.reply({ Action = "Attack-Launched", Damage = tostring(damage), Hits = tostring(hits) })
end

-- ---- handlers ----

local function on(name, action, handle)
  Handlers.add(name, Handlers.utils.hasMatchingTag("Action", action), handle)
end

Handlers.prepend("Game-State-Timers", function() return "continue" end, turnTimers)
Handlers.add("Payment", isPayment, credit)
Handlers.add("Receipt", isReceipt, ignore)
on("Register", "Register", register)
on("Unregister", "Unregister", unregister)
on("GetGameState", "GetGameState", getGameState)
on("AnnounceTick", "Tick", tick)
on("RequestTokens", "RequestTokens", requestTokens)
on("PlayerMove", "PlayerMove", playerMove)
on("PlayerAttack", "PlayerAttack", playerAttack)
