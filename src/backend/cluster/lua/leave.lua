-- People leave. KEYS rooms. ARGV holder, expiry of a room in ms, then for each room how many of the holder's leave it.
for i, room in ipairs(KEYS) do
  local left = tonumber(redis.call('HGET', room, ARGV[1]) or '0') - tonumber(ARGV[2 + i])
  if left > 0 then
    redis.call('HSET', room, ARGV[1], string.format('%.0f', left))
    redis.call('PEXPIRE', room, ARGV[2])
  else
    redis.call('HDEL', room, ARGV[1])
  end
end
return {'OK'}
