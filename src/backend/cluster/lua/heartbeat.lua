-- Registers a node and answers all that live, each with how many ms ago it was heard of. KEYS seen, infos. ARGV id, what it says, '1'
-- when it leaves, expiry ms.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[4])), 'LIMIT', 0, 1000)
for _, id in ipairs(silent) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
local living = {}
local flat = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #flat, 2 do
  local said = redis.call('HGET', KEYS[2], flat[i])
  if said then living[#living + 1] = {said, string.format('%.0f', now - tonumber(flat[i + 1]))} end
end
return living
