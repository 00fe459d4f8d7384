-- The voting blueprint: weights, deadlines, and what happens when a vote passes.

local alice, bob, carol = wallet("alice"), wallet("bob"), wallet("carol")

local START = 2000000

describe("voting", function()
  local process

  before_each(function()
    block.set(START)
    process = spawn { load = "voting.lua", name = "voting" }
    process:eval(("Stakers = { ['%s'] = { amount = '60' }, ['%s'] = { amount = '40' } }"):format(alice, bob))
  end)

  local function vote(who, side, deadline, target)
    return process:send { From = who, Action = "Vote", Side = side, Deadline = deadline, Proposal = target or "raise" }
  end

  local function at(height)
    block.set(height)
    return process:send { From = carol, Action = "Votes" }
  end

  it("counts with the weight of the stake", function()
    local answer = vote(alice, "yay", "10").Messages[1]
    assert.equals("Vote-Notice", answer.Action)
    assert.equals("60", answer.Weight)
    assert.equals("60", answer.Yay)
    assert.equals(tostring(START + 10), answer.Deadline)
    assert.equals("40", vote(bob, "nay").Messages[1].Nay)
  end)

  it("takes the target as a tag of that name too", function()
    local answer = process:send { From = alice, Action = "Vote", Side = "yay", Deadline = "5", Tags = { Target = "x" } }
    assert.equals("x", answer.Messages[1].Proposal)
  end)

  it("counts a voter once: the last vote holds, with the stake of then", function()
    vote(alice, "yay", "10")
    vote(alice, "yay", "10")
    assert.equals("60", process:get("Votes.raise.yay"))
    process:eval(("Stakers['%s'].amount = '25'"):format(alice))
    local answer = vote(alice, "nay").Messages[1]
    assert.equals("0", answer.Yay)
    assert.equals("25", answer.Nay)
  end)

  local refusals = {
    { "who has no stake", carol, "yay", "10", "raise", "No staked tokens to vote" },
    { "no side", alice, nil, "10", "raise", "Side must be yay or nay, got 'nil'" },
    { "another side", alice, "maybe", "10", "raise", "Side must be yay or nay, got 'maybe'" },
    { "no deadline", alice, "yay", nil, "raise", "Deadline must be a number of blocks" },
    { "a deadline of nothing", alice, "yay", "0", "raise", "Deadline must be a number of blocks from 1" },
    { "a target too long", alice, "yay", "10", ("x"):rep(257), "at most 256 bytes, got 257" },
  }
  for _, case in ipairs(refusals) do
    it("refuses " .. case[1], function()
      local answer = vote(case[2], case[3], case[4], case[5]).Messages[1]
      assert.equals("Vote-Error", answer.Action)
      assert.is_truthy(answer.Error:find(case[6], 1, true), answer.Error)
      assert.is_nil(next(process:get("Votes")))
    end)
  end

  it("refuses a vote on nothing", function()
    local answer = process:send { From = alice, Action = "Vote", Side = "yay", Deadline = "1" }.Messages[1]
    assert.is_truthy(answer.Error:find("Target is required", 1, true))
  end)

  it("lists open votes without their voters", function()
    vote(alice, "yay", "10")
    local list = json.decode(at(START).Messages[1].Data)
    assert.same({ raise = { yay = "60", nay = "0", deadline = START + 10 } }, list)
  end)

  describe("at the deadline", function()
    it("a passed vote is handed to HandleVote and cleared", function()
      process:eval("Passed = {} function HandleVote(target, vote) Passed[target] = vote.yay end")
      vote(alice, "yay", "10")
      vote(bob, "nay")
      at(START + 9)
      assert.same({ raise = "60" }, (at(START + 10) and process:get("Passed")))
      assert.is_nil(process:get("Votes.raise"))
    end)

    it("a lost or even vote is only cleared", function()
      process:eval("Passed = 0 function HandleVote() Passed = Passed + 1 end")
      vote(alice, "nay", "10")
      vote(bob, "yay")
      at(START + 10)
      assert.equals(0, process:get("Passed"))
      assert.is_nil(process:get("Votes.raise"))
    end)

    it("a HandleVote that fails does not stop other messages", function()
      process:eval("function HandleVote() error('boom') end")
      vote(alice, "yay", "10")
      local outcome = at(START + 10)
      assert.is_nil(outcome.Error)
      assert.equals("Vote-List", outcome.Messages[1].Action)
    end)

    it("a vote that comes then opens a new one", function()
      vote(alice, "yay", "10")
      block.set(START + 10)
      assert.equals("Vote-Notice", vote(bob, "nay", "5").Messages[1].Action)
      assert.equals("0", process:get("Votes.raise.yay"))
    end)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "voting.lua", "voting.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Stakers", "Votes" }, added)
  end)
end)
