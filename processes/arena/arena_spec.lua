-- The arena: rounds, seats and stakes, moves and attacks, and that it never pays what it does not hold.

local alice, bob, carol, token = wallet("alice"), wallet("bob"), wallet("carol"), wallet("token")

local WAIT, GAME = 120000, 1200000

describe("arena", function()
  local arena

  before_each(function()
    arena = spawn { load = "arena.lua", name = "arena" }
    arena:eval(("PaymentToken = '%s' PaymentQty = '10'"):format(token))
  end)

  local function ask(who, action, fields)
    fields = fields or {}
    fields.From, fields.Action = who, action
    return arena:send(fields)
  end

  local function pay(who, quantity, reason)
    return arena:send {
      From = token, Action = "Credit-Notice", Sender = who, Quantity = quantity or "10", ["X-Reason"] = reason,
    }
  end

  local function later(ms)
    clock.advance(ms)
    return ask(carol, "Tick")
  end

  local function rewards(outcome)
    local list = {}
    for _, message in ipairs(outcome:messages { Target = token, Action = "Transfer" }) do
      list[#list + 1] = message.Reason .. " " .. message.Quantity .. " " .. message.Recipient
    end
    table.sort(list)
    return list
  end

  -- A round with alice and bob, side by side, with energy for a while.
  local function play()
    for _, who in ipairs { alice, bob } do
      ask(who, "Register")
      pay(who)
    end
    later(WAIT + 1)
    arena:eval(([[
      Players["%s"].x, Players["%s"].y = 1, 1
      Players["%s"].x, Players["%s"].y = 2, 2
    ]]):format(alice, alice, bob, bob))
  end

  describe("joining", function()
    it("registers a player who hears announcements and is not paid yet", function()
      local outcome = ask(alice, "Register")
      assert.is_truthy(outcome:message { Target = alice, Action = "Registered" })
      assert.equals("New Player Registered", outcome:message { Target = alice, Action = "Announcement" }.Event)
      assert.equals(false, arena:get(("Waiting['%s']"):format(alice)))
      ask(alice, "Register")
      assert.same({ alice }, arena:get("Listeners"))
    end)

    it("registers a listener who will not play", function()
      ask(carol, "Register", { Mode = "Listen" })
      assert.is_nil(arena:get(("Waiting['%s']"):format(carol)))
      assert.is_truthy(ask(alice, "Register"):message { Target = carol, Action = "Announcement" })
    end)

    it("takes payment from the token alone", function()
      ask(alice, "Register")
      local outcome = pay(alice)
      assert.is_truthy(outcome:message { Target = alice, Action = "Payment-Received" })
      assert.equals("Player-Ready", outcome:message { Target = alice, Action = "Announcement" }.Event)
      assert.is_true(arena:get(("Waiting['%s']"):format(alice)))
      arena:send { From = bob, Action = "Credit-Notice", Sender = bob, Quantity = "10" }
      assert.is_nil(arena:get(("Waiting['%s']"):format(bob)))
    end)

    it("gives back too little, too much and a second payment", function()
      assert.same({ "Refund 9 " .. alice }, rewards(pay(alice, "9")))
      assert.is_nil(arena:get(("Waiting['%s']"):format(alice)))
      assert.same({ "Refund 3 " .. alice }, rewards(pay(alice, "13")))
      assert.same({ "Refund 10 " .. alice }, rewards(pay(alice)))
      assert.is_true(arena:get(("Waiting['%s']"):format(alice)))
    end)

    it("keeps receipts out of the inbox", function()
      local before = arena:get("#Inbox")
      arena:send { From = token, Action = "Debit-Notice", Quantity = "10" }
      assert.equals(before, arena:get("#Inbox"))
    end)

    it("gives the stake back to whoever leaves before the round", function()
      ask(alice, "Register")
      pay(alice)
      local outcome = ask(alice, "Unregister")
      assert.same({ "Refund 10 " .. alice }, rewards(outcome))
      assert.is_truthy(outcome:message { Target = alice, Action = "Unregistered" })
      assert.same({}, rewards(ask(alice, "Unregister")))
    end)

    it("gives tokens away once, if the builder says so", function()
      assert.is_truthy(ask(alice, "RequestTokens").Messages[1].Error:find("gives no tokens", 1, true))
      arena:eval("FaucetQty = 50")
      assert.same({ "Token Request 50 " .. alice }, rewards(ask(alice, "RequestTokens")))
      assert.is_truthy(ask(alice, "RequestTokens").Messages[1].Error:find("had your tokens", 1, true))
    end)
  end)

  describe("rounds", function()
    it("begin with a waiting period and start over without enough players", function()
      ask(alice, "Register")
      pay(alice)
      assert.equals("Waiting", arena:get("GameMode"))
      local outcome = later(WAIT + 1)
      assert.same({ "Refund 10 " .. alice }, rewards(outcome))
      assert.is_truthy(outcome:message { Event = "Not-Enough-Players" })
      assert.equals("Waiting", arena:get("GameMode"))
    end)

    it("start with who paid and eject who did not", function()
      ask(carol, "Register")
      for _, who in ipairs { alice, bob } do
        ask(who, "Register")
        pay(who)
      end
      local outcome = later(WAIT + 1)
      assert.is_truthy(outcome:message { Target = alice, Event = "Started-Game" })
      assert.equals("Did-Not-Pay", outcome:message { Target = carol, Action = "Ejected" }.Reason)
      assert.equals("Playing", arena:get("GameMode"))
      local player = arena:get(("Players['%s']"):format(alice))
      assert.equals(100, player.health)
      assert.equals(0, player.energy)
      assert.is_true(player.x >= 1 and player.x <= 40 and player.y >= 1 and player.y <= 40)
    end)

    it("end by the clock: stakes come back with shares of bonus and bets, the rest stays", function()
      play()
      arena:eval("BonusQty = '4'")
      local bet = pay(carol, "3", "AddBet")
      assert.equals("Bet-Added", bet:message { Target = alice }.Event)
      local outcome = later(GAME + 1)
      assert.same({ "Win 13 " .. alice, "Win 13 " .. bob }, (function()
        local list = rewards(outcome)
        if list[1] == "Win 13 " .. bob then list[1], list[2] = list[2], list[1] end
        return list
      end)())
      assert.equals("1", arena:get("Bets"))
      assert.equals(2, arena:get("Winners"))
      assert.is_nil(next(arena:get("Players")))
      assert.equals("Waiting", arena:get("GameMode"))
    end)

    it("tell their state", function()
      play()
      local answer = ask(carol, "GetGameState").Messages[1]
      assert.equals("GameState", answer.Action)
      local state = json.decode(answer.Data)
      assert.equals("Playing", state.GameMode)
      assert.is_true(state.TimeRemaining > 0 and state.TimeRemaining <= GAME)
      assert.equals(1, state.Players[alice].x)
    end)

    it("announce the time that is left on Tick", function()
      ask(alice, "Register")
      local told = ask(carol, "Tick"):message { Target = alice }
      assert.equals("Tick", told.Event)
      assert.is_truthy(told.Data:find("The game will start in %d+ seconds"))
    end)
  end)

  describe("moves", function()
    it("go one step and come out on the other side", function()
      play()
      local answer = ask(alice, "PlayerMove", { Direction = "DownRight" }):message { Target = alice, Action = "Player-Moved" }
      assert.equals("2", answer.X)
      assert.equals("2", answer.Y)
      for _ = 1, 2 do ask(alice, "PlayerMove", { Direction = "UpLeft" }) end
      assert.equals(40, arena:get(("Players['%s'].x"):format(alice)))
      assert.equals(40, arena:get(("Players['%s'].y"):format(alice)))
    end)

    it("are refused with the reason", function()
      local function reason(who, fields) return ask(who, "PlayerMove", fields).Messages[1].Reason end
      assert.equals("No round is being played.", reason(alice, { Direction = "Up" }))
      play()
      assert.is_truthy(reason(alice, { Direction = "up" }):find("Invalid direction. One of: Down, DownLeft", 1, true))
      assert.equals("You are not playing in this round.", reason(carol, { Direction = "Up" }))
      assert.equals("You can only act for yourself.", reason(alice, { Direction = "Up", Player = bob }))
    end)
  end)

  describe("attacks", function()
    local function energy(who) return arena:get(("Players['%s'].energy"):format(who)) end

    it("need energy, which time gives: one a second, a hundred at most", function()
      play()
      assert.is_truthy(ask(alice, "PlayerAttack", { AttackEnergy = "50" }).Messages[1].Reason:find("Not enough energy", 1, true))
      later(30000)
      assert.equals(30, energy(alice))
      later(600000)
      assert.equals(100, energy(alice))
    end)

    it("hit who is in range and nobody else", function()
      play()
      later(100000)
      arena:eval("math.randomseed(3)")
      local outcome = ask(alice, "PlayerAttack", { AttackEnergy = "60" })
      local launched = outcome:message { Target = alice, Action = "Attack-Launched" }
      local hit = outcome:message { Target = bob, Action = "Hit" }
      assert.equals("1", launched.Hits)
      assert.equals(launched.Damage, hit.Damage)
      assert.equals(100 - math.tointeger(tonumber(hit.Damage)), arena:get(("Players['%s'].health"):format(bob)))
      assert.equals(40, energy(alice))
      assert.equals(100, arena:get(("Players['%s'].health"):format(alice)))
      arena:eval(("Players['%s'].x = 20"):format(bob))
      assert.equals("0", ask(alice, "PlayerAttack", { AttackEnergy = "10" }):message { Action = "Attack-Launched" }.Hits)
    end)

    it("reach round the edge of the grid", function()
      play()
      later(100000)
      arena:eval(("Players['%s'].x, Players['%s'].y = 40, 40"):format(bob, bob))
      assert.equals("1", ask(alice, "PlayerAttack", { AttackEnergy = "10" }):message { Action = "Attack-Launched" }.Hits)
    end)

    it("refuse energy that is no number", function()
      play()
      for _, text in ipairs { "0", "-5", "much", "1.5" } do
        local answer = ask(alice, "PlayerAttack", { AttackEnergy = text }).Messages[1]
        assert.equals("Attack-Failed", answer.Action)
        assert.is_truthy(answer.Reason:find("whole number from 1, got '" .. text .. "'", 1, true), answer.Reason)
      end
    end)

    it("eliminate: the stake changes hands and the last one wins", function()
      play()
      later(100000)
      arena:eval(("Players['%s'].health = 1 math.randomseed(3)"):format(bob))
      local outcome
      for _ = 1, 5 do
        outcome = ask(alice, "PlayerAttack", { AttackEnergy = "20" })
        if outcome:message { Action = "Eliminated" } then break end
      end
      assert.equals(alice, outcome:message { Target = bob, Action = "Eliminated" }.Eliminator)
      assert.same({ "Eliminated-Player 10 " .. alice, "Win 10 " .. alice }, rewards(outcome))
      assert.is_truthy(outcome:message { Event = "Game-Ended" })
      assert.equals("Waiting", arena:get("GameMode"))
    end)
  end)

  it("never pays out what it does not hold", function()
    local state = 99
    local function below(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return (state >> 8) % n
    end
    local players = { alice, bob, carol, wallet("dave") }
    local got, given = 0, 0
    local function step()
      local who, choice = players[1 + below(4)], below(9)
      if choice == 0 then return ask(who, "Register") end
      if choice == 1 then return ask(who, "Unregister") end
      if choice == 2 then return ask(who, "PlayerMove", { Direction = "Up" }) end
      if choice <= 4 then return ask(who, "PlayerAttack", { AttackEnergy = tostring(below(60)) }) end
      if choice == 5 then return later(below(60000)) end
      local quantity = 5 * (1 + below(3))
      got = got + quantity
      return pay(who, tostring(quantity), choice == 6 and below(3) == 0 and "AddBet" or nil)
    end
    arena:eval("Width, Height, Range, MinimumPlayers = 3, 3, 1, 2")
    for _ = 1, 150 do
      local outcome = step()
      assert.is_nil(outcome.Error)
      for _, message in ipairs(outcome:messages { Target = token, Action = "Transfer" }) do
        given = given + math.tointeger(tonumber(message.Quantity))
      end
    end
    local held = arena:get([[(function()
      local held = tonumber(Bets)
      for _, paid in pairs(Waiting) do held = held + (paid and 10 or 0) end
      for _ in pairs(Players) do held = held + 10 end
      return held
    end)()]])
    assert.equals(got, given + held)
    assert.is_true(given > 0)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "arena.lua", "arena.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({
      "AverageMaxStrengthHitsToKill", "Bets", "BonusQty", "EnergyPerSec", "FaucetQty", "GameMode", "GameTime",
      "Height", "LastTick", "Listeners", "MaxEnergy", "MinimumPlayers", "Now", "PaymentQty", "PaymentToken",
      "Players", "Range", "Requested", "StateChangeTime", "WaitTime", "Waiting", "Width", "Winners", "announce",
      "eliminatePlayer", "endGame", "onTick", "playerInitState", "removeListener", "sendReward",
      "startGamePeriod", "startWaitingPeriod",
    }, added)
  end)
end)
