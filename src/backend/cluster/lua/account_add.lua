-- Stores a new account. KEYS accounts, names. ARGV user, name, record. Answers '0' when the name is another's.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return {'1'} end
local holder = redis.call('HGET', KEYS[2], ARGV[2])
if holder and holder ~= ARGV[1] then return {'0'} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {'1'}
