-- Changes an account, if it still is what it was thought to be. KEYS accounts, changes. ARGV user, record before, record after, '1'
-- when a right is taken away, how many changes are kept.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return {'0'} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '1' then redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'u', ARGV[1]) end
return {'1'}
