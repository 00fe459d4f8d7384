-- Voting: stakers vote yay or nay on a target until its deadline, each with the weight of its stake.
-- Needs the staking blueprint in the same process: it reads Stakers.
-- Actions and answers are in README.md. What it is not: an executor; when a vote passes, HandleVote is called
-- if the owner has defined it.

local bint = require(".bint")(256)
local json = require("json")

local DEADLINE_BLOCKS_MAX = 10000000
local OPEN_VOTES_MAX = 1000
local TARGET_BYTES_MAX = 256

-- ---- state ----

-- address -> { amount = string of digits }; kept by the staking blueprint
Stakers = Stakers or {}
-- target -> { yay, nay = strings of digits, deadline = block height, voters = address -> { side, weight } }
Votes = Votes or {}

-- ---- reading messages ----

local function heightOf(msg) return math.tointeger(tonumber(msg["Block-Height"])) or 0 end

local function targetOf(msg)
  local target = msg.Proposal or msg.Tags.Target
  if type(target) ~= "string" or target == "" then return nil, "Target is required: what the vote is about" end
  if #target > TARGET_BYTES_MAX then
    return nil, ("Target must have at most %d bytes, got %d"):format(TARGET_BYTES_MAX, #target)
  end
  return target
end

local function sideOf(msg)
  local side = tostring(msg.Side):lower()
  if side ~= "yay" and side ~= "nay" then return nil, "Side must be yay or nay, got '" .. tostring(msg.Side) .. "'" end
  return side
end

local function deadlineOf(msg)
  local blocks = math.tointeger(tonumber(msg.Deadline))
  if not blocks or blocks < 1 or blocks > DEADLINE_BLOCKS_MAX then
    local wanted = "Deadline must be a number of blocks from 1 to %d, got '%s'"
    return nil, wanted:format(DEADLINE_BLOCKS_MAX, tostring(msg.Deadline))
  end
  return heightOf(msg) + blocks
end

-- ---- votes ----

local function openCount()
  local count = 0
  for _ in pairs(Votes) do count = count + 1 end
  return count
end

-- The vote on a target, opened by the first who votes; the deadline is that one's.
local function voteOn(target, msg)
  if Votes[target] then return Votes[target] end
  local deadline, problem = deadlineOf(msg)
  if not deadline then return nil, problem end
  if openCount() >= OPEN_VOTES_MAX then
    return nil, ("No more than %d votes may be open at once"):format(OPEN_VOTES_MAX)
  end
  Votes[target] = { yay = "0", nay = "0", deadline = deadline, voters = {} }
  return Votes[target]
end

local function add(vote, side, weight) vote[side] = tostring(bint(vote[side]) + weight) end

-- A voter's later vote replaces the earlier one.
local function count(vote, voter, side, weight)
  local earlier = vote.voters[voter]
  if earlier then add(vote, earlier.side, -bint(earlier.weight)) end
  add(vote, side, weight)
  vote.voters[voter] = { side = side, weight = tostring(weight) }
end

-- ---- actions ----

local function refuse(msg, text)
  msg.reply({ Action = "Vote-Error", ["Message-Id"] = msg.Id, Error = text })
end

local function vote(msg)
  local staker = Stakers[msg.From]
  local weight = bint(staker and staker.amount or "0")
  if not bint.ispos(weight) then return refuse(msg, "No staked tokens to vote") end
  local target, noTarget = targetOf(msg)
  if not target then return refuse(msg, noTarget) end
  local side, noSide = sideOf(msg)
  if not side then return refuse(msg, noSide) end
  local open, problem = voteOn(target, msg)
  if not open then return refuse(msg, problem) end
  count(open, msg.From, side, weight)
  msg.reply({
    Action = "Vote-Notice",
    Proposal = target,
    Side = side,
    Weight = tostring(weight),
    Yay = open.yay,
    Nay = open.nay,
    Deadline = tostring(open.deadline),
    Data = "Voted " .. side .. " on " .. target,
  })
end

local function votes(msg)
  local list = {}
  for target, open in pairs(Votes) do
    list[target] = { yay = open.yay, nay = open.nay, deadline = open.deadline }
  end
  msg.reply({ Action = "Vote-List", Data = json.encode(list) })
end

-- ---- closing, with every message ----

-- HandleVote must not keep other messages from being handled: what it raises is printed.
local function passed(target, closed)
  if not HandleVote then return print("Vote passed: " .. target) end
  local ok, raised = pcall(HandleVote, target, closed)
  if not ok then print("HandleVote failed for " .. target .. ": " .. tostring(raised)) end
end

local function due(height)
  local targets = {}
  for target, open in pairs(Votes) do
    if height >= open.deadline then targets[#targets + 1] = target end
  end
  table.sort(targets)
  return targets
end

local function close(msg)
  for _, target in ipairs(due(heightOf(msg))) do
    local closed = Votes[target]
    Votes[target] = nil
    if bint(closed.yay) > bint(closed.nay) then passed(target, closed) end
  end
end

Handlers.prepend("voting-close", function() return "continue" end, close)
Handlers.add("vote", Handlers.utils.hasMatchingTag("Action", "Vote"), vote)
Handlers.add("votes", Handlers.utils.hasMatchingTag("Action", "Votes"), votes)
