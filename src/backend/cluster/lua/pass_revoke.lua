-- Takes a pass back. KEYS passes, changes. ARGV user, digest, how many changes are kept.
if redis.call('HDEL', KEYS[1], ARGV[2]) == 1 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'u', ARGV[1])
end
return {'1'}
