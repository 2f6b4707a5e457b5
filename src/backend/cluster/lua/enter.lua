-- Lets parties in, one after the other. KEYS holders, then rooms. ARGV holder, expiry of a room in ms, then for each party how many they
-- are, how many rooms they want, and for each room its place among the rooms and how many fit in. Answers for each party '' when it is in,
-- else the place (from 0) of the first of its rooms that is full.
local holder, expiry = ARGV[1], ARGV[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local known = {[holder] = true}
local function lives(other)
  if known[other] == nil then
    local score = redis.call('ZSCORE', KEYS[1], other)
    known[other] = score and tonumber(score) > now or false
  end
  return known[other]
end

-- Counted once; what comes in here is added.
local inside = {}
local function count(room)
  if not inside[room] then
    local sum, held = 0, redis.call('HGETALL', room)
    for i = 1, #held, 2 do
      if lives(held[i]) then sum = sum + tonumber(held[i + 1]) else redis.call('HDEL', room, held[i]) end
    end
    inside[room] = sum
  end
  return inside[room]
end

local answers, at = {}, 3
while at <= #ARGV do
  local people, wanted = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local full = ''
  for i = 1, wanted do
    local room, most = KEYS[2 + tonumber(ARGV[at + 2 * i])], tonumber(ARGV[at + 2 * i + 1])
    if count(room) + people > most then
      full = string.format('%.0f', i - 1)
      break
    end
  end
  if full == '' then
    for i = 1, wanted do
      local room = KEYS[2 + tonumber(ARGV[at + 2 * i])]
      inside[room] = inside[room] + people
      redis.call('HINCRBY', room, holder, people)
      redis.call('PEXPIRE', room, expiry)
    end
  end
  answers[#answers + 1] = full
  at = at + 2 + 2 * wanted
end
return answers
