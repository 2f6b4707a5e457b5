-- Gives the lease back. KEYS log, state. ARGV nonce, epoch.
local state = redis.call('HMGET', KEYS[2], 's', 'e', 'n', 'o', 'q', 'x')
if not state[1] or redis.call('EXISTS', KEYS[1]) == 0 then return {'GONE'} end
if state[2] ~= ARGV[2] then return {'FENCED'} end
if state[1] == 'f' then return {'FINAL'} end
-- The same release again: the epoch is mine and nobody has taken it since.
if state[6] == '1' then return {'OK', state[4], state[5]} end
if state[3] ~= ARGV[1] then return {'FENCED'} end
redis.call('HDEL', KEYS[2], 'n')
redis.call('HSET', KEYS[2], 'x', '1')
return {'OK', state[4], state[5]}
