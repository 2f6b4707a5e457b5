-- Takes out what was handed out, unless it was made due again since. KEYS due. ARGV member, the place it was given.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
