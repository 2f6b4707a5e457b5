-- Moves a handed out one to the end of its lease, in so many ms from now. KEYS leased. ARGV member, ms.
local t = redis.call('TIME')
local until_ms = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])
return redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', until_ms), ARGV[1])
