-- Begins every script that takes from buckets. A bucket's key holds the millisecond when it is full again.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function whole(number)
  return string.format('%.0f', number)
end

-- Takes one from each bucket, or, where one is empty, nothing: then its place and the milliseconds to wait. Keys from `first` on, and
-- for each, in ARGV from `arg` on, ms for one more and how many fit in.
local function take(first, count, arg)
  local full = {}
  for i = 1, count do
    local every = tonumber(ARGV[arg + 2 * i - 2])
    local missing = math.max(tonumber(redis.call('GET', KEYS[first + i - 1]) or '0') - now, 0)
    local room = every * (tonumber(ARGV[arg + 2 * i - 1]) - 1)
    if missing > room then return {'EMPTY', whole(i - 1), whole(missing - room)} end
    full[i] = missing + every
  end
  for i = 1, count do
    redis.call('SET', KEYS[first + i - 1], whole(now + full[i]), 'PX', whole(full[i]))
  end
  return nil
end
