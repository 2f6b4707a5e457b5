-- Hands out what is due, and hides it for a while. KEYS due. ARGV most, for how long (ms). Answers {member, its new place}…
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local again = string.format('%.0f', now + tonumber(ARGV[2]))
local taken = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], again, member)
  taken[#taken + 1] = {member, again}
end
return taken
