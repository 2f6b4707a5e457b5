-- What has been in a set by moments for so long by the server's clock, the oldest first. KEYS set. ARGV ms, most. Answers {member, ms}…
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local until_ms = string.format('%.0f', now - tonumber(ARGV[1]))
local found = {}
local flat = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_ms, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #flat, 2 do found[#found + 1] = {flat[i], string.format('%.0f', now - tonumber(flat[i + 1]))} end
return found
