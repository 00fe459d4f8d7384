-- The staking blueprint: tokens move between balances, stakes and releases and none is lost.

local alice, bob = wallet("alice"), wallet("bob")

local START = 2000000

describe("staking", function()
  local process

  before_each(function()
    block.set(START)
    process = spawn { load = "staking.lua", name = "staking" }
    process:eval(("Balances = { ['%s'] = '100', ['%s'] = '50' }"):format(alice, bob))
  end)

  local function stake(quantity, delay, from)
    return process:send { From = from or alice, Action = "Stake", Quantity = quantity, UnstakeDelay = delay }
  end

  local function unstake(quantity, from)
    return process:send { From = from or alice, Action = "Unstake", Quantity = quantity }
  end

  local function at(height)
    block.set(height)
    return process:send { From = bob, Action = "Stakers" }
  end

  local function balance(who) return process:get(("Balances['%s']"):format(who)) end

  describe("Stake", function()
    it("locks tokens until a height", function()
      local answer = stake("60", "10").Messages[1]
      assert.equals("Stake-Notice", answer.Action)
      assert.equals("60", answer.Staked)
      assert.equals(tostring(START + 10), answer["Unstake-At"])
      assert.equals("40", balance(alice))
      assert.same({ amount = "60", unstake_at = START + 10 }, process:get(("Stakers['%s']"):format(alice)))
    end)

    it("again adds, and never shortens the lock", function()
      stake("10", "100")
      local answer = stake("20", "1").Messages[1]
      assert.equals("30", answer.Staked)
      assert.equals(tostring(START + 100), answer["Unstake-At"])
    end)

    local refusals = {
      { "no quantity", nil, "5", "Quantity is required!" },
      { "zero", "0", "5", "Quantity must be greater than 0" },
      { "a fraction", "0.5", "5", "whole number in digits, got '0.5'" },
      { "no delay", "1", nil, "UnstakeDelay must be a number of blocks" },
      { "a negative delay", "1", "-1", "UnstakeDelay must be a number of blocks from 0 to 10000000, got '-1'" },
      { "more than there is", "101", "5", "Insufficient balance to stake" },
    }
    for _, case in ipairs(refusals) do
      it("refuses " .. case[1], function()
        local answer = stake(case[2], case[3]).Messages[1]
        assert.equals("Stake-Error", answer.Action)
        assert.is_truthy(answer.Error:find(case[4], 1, true), answer.Error)
        assert.equals("100", balance(alice))
      end)
    end
  end)

  describe("Unstake", function()
    it("gives tokens back at the height of the lock, not before", function()
      stake("60", "10")
      local answer = unstake("60").Messages[1]
      assert.equals("Unstake-Notice", answer.Action)
      assert.equals(tostring(START + 10), answer["Release-At"])
      assert.is_nil(process:get(("Stakers['%s']"):format(alice)))
      at(START + 9)
      assert.equals("40", balance(alice))
      local released = at(START + 10):message { Target = alice }
      assert.equals("Release-Notice", released.Action)
      assert.equals("60", released.Quantity)
      assert.equals("100", balance(alice))
    end)

    it("twice loses nothing", function()
      stake("60", "10")
      unstake("20")
      unstake("15")
      at(START + 10)
      assert.equals("75", balance(alice))
      assert.equals("25", process:get(("Stakers['%s'].amount"):format(alice)))
    end)

    it("refuses more than is staked", function()
      stake("10", "10")
      assert.equals("Insufficient staked amount", unstake("11").Messages[1].Error)
      assert.equals("Unstake-Error", unstake("1", bob).Messages[1].Action)
    end)
  end)

  it("tells what someone has staked", function()
    stake("60", "10")
    unstake("20")
    local answer = process:send { From = bob, Action = "Get-Stake", Recipient = alice }.Messages[1]
    assert.equals("40", answer.Staked)
    assert.equals("20", answer.Unstaking)
    assert.equals("0", process:send { From = bob, Action = "Get-Stake" }.Messages[1].Staked)
  end)

  it("conserves tokens over any run of stakes, unstakes and blocks", function()
    local state = 7
    local function below(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return (state >> 8) % n
    end
    for _ = 1, 80 do
      local who = below(2) == 0 and alice or bob
      local quantity = tostring(below(60))
      if below(2) == 0 then stake(quantity, tostring(below(8)), who) else unstake(quantity, who) end
      block.advance(below(3))
    end
    local sum = process:get([[(function()
      local sum = 0
      for _, balance in pairs(Balances) do sum = sum + tonumber(balance) end
      for _, staker in pairs(Stakers) do sum = sum + tonumber(staker.amount) end
      for _, pending in pairs(Unstaking) do sum = sum + tonumber(pending.amount) end
      return sum
    end)()]])
    assert.equals(150, sum)
  end)

  it("works in a process with the token and voting blueprints", function()
    local all = { "../token/token.lua", "staking.lua", "../voting/voting.lua" }
    local bank = spawn { load = all, name = "bank", owner = alice }
    bank:send { From = alice, Action = "Mint", Quantity = "100" }
    bank:send { From = alice, Action = "Stake", Quantity = "70", UnstakeDelay = "5" }
    local short = bank:send { From = alice, Action = "Transfer", Recipient = bob, Quantity = "31" }
    assert.equals("Insufficient Balance!", short.Messages[1].Error)
    local vote = bank:send { From = alice, Action = "Vote", Proposal = "x", Side = "yay", Deadline = "2" }
    assert.equals("70", vote.Messages[1].Weight)
    bank:send { From = alice, Action = "Unstake", Quantity = "70" }
    block.advance(5)
    local paid = bank:send { From = alice, Action = "Transfer", Recipient = bob, Quantity = "100" }
    assert.is_truthy(paid:message { Target = bob, Action = "Credit-Notice" })
    assert.is_nil(bank:get("Votes.x"))
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "staking.lua", "staking.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Balances", "Stakers", "Unstaking" }, added)
  end)
end)
