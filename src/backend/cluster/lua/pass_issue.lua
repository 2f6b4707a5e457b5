-- Lets a pass in. KEYS accounts, passes. ARGV user, digest, record, then the digests that go for it.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {'0'} end
for i = 4, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
return {'1'}
