-- What a request stands for: what was said first stays. KEYS request. ARGV what it would be, ttl ms, '1' when nothing new may be. Answers
-- '1' when it was first, and what holds.
if ARGV[3] ~= '1' and redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'1', ARGV[1]} end
return {'0', redis.call('GET', KEYS[1]) or ''}
