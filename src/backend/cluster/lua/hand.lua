-- Hands this one out for one lease, if it waits. KEYS waiting, leased. ARGV member, lease ms.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local t = redis.call('TIME')
local until_ms = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])
return redis.call('ZADD', KEYS[2], string.format('%.0f', until_ms), ARGV[1])
