-- Brings an answer into its rooms, once. KEYS answer, then buckets, then rooms. ARGV answer, how many buckets, ms after which an answer
-- is not counted any more, for each bucket ms for one more and how many fit in, for each room how many fit in.
local answer, buckets, expiry = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local empty = take(2, buckets, 4)
if empty then return empty end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'OK'} end
local rooms = #KEYS - 1 - buckets
for i = 1, rooms do
  local room = KEYS[1 + buckets + i]
  redis.call('ZREMRANGEBYSCORE', room, '-inf', whole(now - expiry))
  if redis.call('ZCARD', room) >= tonumber(ARGV[3 + 2 * buckets + i]) then return {'FULL', whole(i - 1)} end
end
local inside = {}
for i = 1, rooms do
  local room = KEYS[1 + buckets + i]
  redis.call('ZADD', room, whole(now), answer)
  redis.call('PEXPIRE', room, whole(expiry))
  inside[i] = room
end
redis.call('SET', KEYS[1], table.concat(inside, ' '), 'PX', whole(expiry))
return {'OK'}
