-- Changes what a request stands for, if it still is what it was thought to be. KEYS request. ARGV what it was, what it becomes
-- ('' for nothing).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
