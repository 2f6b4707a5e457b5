-- How many are handed out before it; -1 when it does not wait. KEYS waiting, leased. ARGV member.
local rank = redis.call('ZRANK', KEYS[1], ARGV[1])
if not rank then return -1 end
local t = redis.call('TIME')
return rank + redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
