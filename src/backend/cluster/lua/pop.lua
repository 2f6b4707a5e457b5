-- Hands the next claimable one out for one lease. KEYS waiting, leased. ARGV lease ms.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local member = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1)[1]
  or redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if not member then return {} end
redis.call('ZREM', KEYS[1], member)
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[1])), member)
return {member}
