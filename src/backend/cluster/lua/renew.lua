-- Extends the owner's lease. KEYS log, state. ARGV nonce, epoch, ttl ms.
local state = redis.call('HMGET', KEYS[2], 's', 'e', 'n', 'k', 'o')
if not state[1] or redis.call('EXISTS', KEYS[1]) == 0 then return {'GONE'} end
if state[2] ~= ARGV[2] or state[3] ~= ARGV[1] then return {'FENCED'} end
if state[1] == 'f' then return {'FINAL'} end
local t = redis.call('TIME')
redis.call('HSET', KEYS[2], 'l', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'OK', state[4] or '', state[5]}
