-- Makes a generation claimable. KEYS waiting, leased. ARGV member, microsecond of its submission, '1' to take it from the leased.
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
return redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
