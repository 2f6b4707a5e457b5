-- The answer leaves its rooms, which are of the same slot as it. KEYS answer. ARGV answer.
for room in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
  redis.call('ZREM', room, ARGV[1])
end
return redis.call('DEL', KEYS[1])
