-- How long the next claimable one waits already, without taking it. KEYS waiting, leased. Ended leases come first: they were begun,
-- so somebody is reading them.
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local free = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
if free[1] then return {'0', free[2]} end
local waiting = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if waiting[1] then return {'1', waiting[2]} end
return {}
