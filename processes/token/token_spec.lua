-- The token blueprint: its actions, its refusals, and that no token appears or vanishes.

local alice, bob, owner = wallet("alice"), wallet("bob"), wallet("owner")

local TOO_LONG = ("9"):rep(77)

describe("token", function()
  local token

  before_each(function()
    token = spawn { load = "token.lua", name = "Coin", owner = owner }
    token:eval(("Balances = { ['%s'] = '100' } TotalSupply = '100'"):format(alice))
  end)

  local function transfer(fields)
    fields.From, fields.Action = fields.From or alice, "Transfer"
    return token:send(fields)
  end

  it("starts with the whole supply in the process", function()
    local fresh = spawn { load = "token.lua", name = "Fresh", owner = owner }
    assert.equals("10000000000000000", fresh:get("Balances[ao.id]"))
    assert.equals("10000000000000000", fresh:get("TotalSupply"))
  end)

  it("takes name, ticker and denomination from the tags of its process", function()
    local tagged = spawn { load = "token.lua", name = "Fun", owner = owner, tags = { Ticker = "FUN", Denomination = "2" } }
    local info = tagged:send { From = alice, Action = "Info" }.Messages[1]
    assert.equals("Fun", info.Name)
    assert.equals("FUN", info.Ticker)
    assert.equals("2", info.Denomination)
    assert.equals("1000000", tagged:get("TotalSupply"))
  end)

  it("keeps its handlers when loaded again", function()
    local again = spawn { load = { "token.lua", "token.lua" }, name = "Twice", owner = owner }
    assert.equals("10000000000000000", again:get("TotalSupply"))
    assert.equals(1, again:get([[(function()
      local count = 0
      for _, handler in ipairs(Handlers.list) do
        if handler.name == "transfer" then count = count + 1 end
      end
      return count
    end)()]]))
  end)

  describe("Info", function()
    it("tells the parameters", function()
      local info = token:send { From = alice, Action = "Info" }:message { Target = alice }
      assert.equals("Coin", info.Name)
      assert.equals("PNTS", info.Ticker)
      assert.equals("12", info.Denomination)
      assert.is_string(info.Logo)
    end)
  end)

  describe("Balance", function()
    it("is the sender's if no account is named", function()
      local answer = token:send { From = alice, Action = "Balance" }.Messages[1]
      assert.equals("100", answer.Balance)
      assert.equals("100", answer.Data)
      assert.equals(alice, answer.Account)
      assert.equals("PNTS", answer.Ticker)
    end)

    it("is another's by Recipient or Target", function()
      assert.equals("100", token:send { From = bob, Action = "Balance", Recipient = alice }.Messages[1].Balance)
      assert.equals("100", token:send { From = bob, Action = "Balance", Tags = { Target = alice } }.Messages[1].Balance)
    end)

    it("is 0 for an account never seen, whoever asks", function()
      local answer = token:send { From = alice, Action = "Balance", Recipient = bob }.Messages[1]
      assert.equals("0", answer.Balance)
      assert.equals(bob, answer.Account)
    end)
  end)

  it("lists all balances as JSON", function()
    local answer = token:send { From = bob, Action = "Balances" }.Messages[1]
    assert.same({ [alice] = "100" }, json.decode(answer.Data))
  end)

  describe("Transfer", function()
    it("moves tokens and notifies both sides", function()
      local outcome = transfer { Recipient = bob, Quantity = "30" }
      assert.equals("70", token:get(("Balances['%s']"):format(alice)))
      assert.equals("30", token:get(("Balances['%s']"):format(bob)))
      assert.equals(2, #outcome.Messages)
      local debit = outcome:message { Action = "Debit-Notice" }
      assert.equals(alice, debit.Target)
      assert.equals(bob, debit.Recipient)
      assert.equals("30", debit.Quantity)
      local credit = outcome:message { Action = "Credit-Notice" }
      assert.equals(bob, credit.Target)
      assert.equals(alice, credit.Sender)
      assert.equals("30", credit.Quantity)
    end)

    it("hands X- tags on to both notices and no others", function()
      local outcome = transfer { Recipient = bob, Quantity = "1", ["X-Order"] = "7", Note = "n" }
      for _, action in ipairs { "Debit-Notice", "Credit-Notice" } do
        assert.equals("7", outcome:message { Action = action }["X-Order"])
        assert.is_nil(outcome:message { Action = action }.Note)
      end
    end)

    it("is silent with Cast", function()
      local outcome = transfer { Recipient = bob, Quantity = "1", Cast = "true" }
      assert.same({}, outcome.Messages)
      assert.equals("1", token:get(("Balances['%s']"):format(bob)))
    end)

    it("to oneself changes nothing", function()
      transfer { Recipient = alice, Quantity = "40" }
      assert.equals("100", token:get(("Balances['%s']"):format(alice)))
    end)

    it("drops leading zeros", function()
      assert.equals("5", transfer { Recipient = bob, Quantity = "0005" }:message { Action = "Debit-Notice" }.Quantity)
    end)

    local refusals = {
      { "no recipient", { Quantity = "1" }, "Recipient is required!" },
      { "a recipient too long", { Recipient = ("a"):rep(129), Quantity = "1" }, "at most 128 bytes, got 129" },
      { "no quantity", { Recipient = bob }, "Quantity is required!" },
      { "zero", { Recipient = bob, Quantity = "0" }, "Quantity must be greater than 0" },
      { "a negative quantity", { Recipient = bob, Quantity = "-1" }, "whole number in digits, got '-1'" },
      { "a fraction", { Recipient = bob, Quantity = "1.5" }, "whole number in digits, got '1.5'" },
      { "words", { Recipient = bob, Quantity = "all" }, "whole number in digits, got 'all'" },
      { "too many digits", { Recipient = bob, Quantity = TOO_LONG }, "at most 76 digits, got 77" },
      { "more than there is", { Recipient = bob, Quantity = "101" }, "Insufficient Balance!" },
    }
    for _, case in ipairs(refusals) do
      it("refuses " .. case[1], function()
        local outcome = transfer(case[2])
        assert.is_nil(outcome.Error)
        assert.equals(1, #outcome.Messages)
        local answer = outcome.Messages[1]
        assert.equals(alice, answer.Target)
        assert.equals("Transfer-Error", answer.Action)
        assert.is_truthy(answer.Error:find(case[3], 1, true), answer.Error)
        assert.is_string(answer["Message-Id"])
        assert.same({ [alice] = "100" }, token:get("Balances"))
      end)
    end
  end)

  describe("Mint", function()
    it("adds to the owner's balance and the supply", function()
      local answer = token:send { From = owner, Action = "Mint", Quantity = "50" }.Messages[1]
      assert.equals("50", answer.Quantity)
      assert.equals("50", token:get(("Balances['%s']"):format(owner)))
      assert.equals("150", token:get("TotalSupply"))
    end)

    it("is the owner's alone", function()
      local answer = token:send { From = alice, Action = "Mint", Quantity = "50" }.Messages[1]
      assert.equals("Mint-Error", answer.Action)
      assert.is_truthy(answer.Error:find("Only the Process Owner can mint", 1, true))
      assert.equals("100", token:get("TotalSupply"))
    end)

    it("refuses a bad quantity and a supply beyond all bounds", function()
      assert.equals("Mint-Error", token:send { From = owner, Action = "Mint", Quantity = "x" }.Messages[1].Action)
      local most = ("9"):rep(76)
      local answer = token:send { From = owner, Action = "Mint", Quantity = most }.Messages[1]
      assert.is_truthy(answer.Error:find("76 digits", 1, true), answer.Error)
      assert.equals("100", token:get("TotalSupply"))
    end)
  end)

  describe("Burn", function()
    it("takes from the sender's balance and the supply", function()
      assert.equals("40", token:send { From = alice, Action = "Burn", Quantity = "40" }.Messages[1].Quantity)
      assert.equals("60", token:get(("Balances['%s']"):format(alice)))
      assert.equals("60", token:get("TotalSupply"))
    end)

    it("refuses more than there is", function()
      local answer = token:send { From = bob, Action = "Burn", Quantity = "1" }.Messages[1]
      assert.equals("Burn-Error", answer.Action)
      assert.equals("Insufficient Balance!", answer.Error)
    end)
  end)

  it("tells its total supply", function()
    for _, action in ipairs { "Total-Supply", "Get-Total-Supply" } do
      local answer = token:send { From = bob, Action = action }.Messages[1]
      assert.equals("100", answer.Data)
      assert.equals("Total-Supply", answer.Action)
    end
  end)

  it("conserves the supply over any run of transfers, mints and burns", function()
    local state = 20240611
    local function below(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return (state >> 8) % n
    end
    local accounts = { alice, bob, owner, wallet("carol"), wallet("dave") }
    local actions = { "Transfer", "Transfer", "Transfer", "Mint", "Burn" }
    local amounts = { "0", "1", "7", "33", "100", "-5", "1e3", "12345678901234567890123456789" }
    for _ = 1, 120 do
      token:send {
        From = accounts[1 + below(5)],
        Action = actions[1 + below(5)],
        Recipient = accounts[1 + below(5)],
        Quantity = amounts[1 + below(8)],
        Cast = below(2) == 0 and "true" or nil,
      }
    end
    local sums = token:get([[(function()
      local bint = require(".bint")(256)
      local sum, negative = bint.zero(), 0
      for _, balance in pairs(Balances) do
        sum = sum + bint(balance)
        if bint.isneg(bint(balance)) then negative = negative + 1 end
      end
      return { sum = tostring(sum), supply = TotalSupply, negative = negative }
    end)()]])
    assert.equals(sums.supply, sums.sum)
    assert.equals(0, sums.negative)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "token.lua", "token.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Balances", "Denomination", "Logo", "Ticker", "TotalSupply" }, added)
  end)
end)
