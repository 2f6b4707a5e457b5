-- Takes one from a bucket. KEYS bucket: the millisecond when it is full again. ARGV ms for one more, how many fit in. Answers the
-- milliseconds to wait, '0' when it was taken.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local every = tonumber(ARGV[1])
local missing = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') - now, 0)
local room = every * (tonumber(ARGV[2]) - 1)
if missing > room then return {string.format('%.0f', missing - room)} end
local full = missing + every
redis.call('SET', KEYS[1], string.format('%.0f', now + full), 'PX', string.format('%.0f', full))
return {'0'}
