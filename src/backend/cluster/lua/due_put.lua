-- Makes something due in so many ms. KEYS due. ARGV member, ms, '' or what ZADD knows for what is there already (NX: it stays, LT: it
-- stays where that is earlier), the place that it was given when it was handed out: if it has another one, it was made due again since,
-- and stays there.
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2]))
if ARGV[4] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[4] then return 0 end
if ARGV[3] ~= '' then return redis.call('ZADD', KEYS[1], ARGV[3], at, ARGV[1]) end
return redis.call('ZADD', KEYS[1], at, ARGV[1])
