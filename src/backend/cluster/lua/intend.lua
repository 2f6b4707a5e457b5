-- Writes an intent down, with the moment by the server's clock. KEYS intents. ARGV intent.
local t = redis.call('TIME')
return redis.call('ZADD', KEYS[1], string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), ARGV[1])
