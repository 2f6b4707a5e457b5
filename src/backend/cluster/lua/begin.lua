-- Brings an answer into its rooms and reserves what it may cost, once. KEYS answer, then buckets, then rooms, then what was spent. ARGV
-- answer, how many buckets, ms after which an answer is not counted any more, what it may cost ('' for no budget), what the budget has,
-- ms for which what was spent is known, for each bucket ms for one more and how many fit in, for each room how many fit in.
local answer, buckets, expiry, cost = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local empty = take(2, buckets, 7)
if empty then return empty end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'OK'} end
local rooms = #KEYS - 1 - buckets - (cost == '' and 0 or 1)
for i = 1, rooms do
  local room = KEYS[1 + buckets + i]
  redis.call('ZREMRANGEBYSCORE', room, '-inf', whole(now - expiry))
  if redis.call('ZCARD', room) >= tonumber(ARGV[6 + 2 * buckets + i]) then return {'FULL', whole(i - 1)} end
end
local inside = {}
if cost ~= '' then
  local budget = KEYS[#KEYS]
  local spent = redis.call('HMGET', budget, 'u', 'r')
  local left = tonumber(ARGV[5]) - tonumber(spent[1] or '0') - tonumber(spent[2] or '0')
  if left < tonumber(cost) then return {'SPENT', whole(math.max(left, 0))} end
  redis.call('HINCRBY', budget, 'r', cost)
  redis.call('PEXPIRE', budget, ARGV[6])
  inside[1] = cost .. '=' .. budget
end
for i = 1, rooms do
  local room = KEYS[1 + buckets + i]
  redis.call('ZADD', room, whole(now), answer)
  redis.call('PEXPIRE', room, whole(expiry))
  inside[#inside + 1] = room
end
redis.call('SET', KEYS[1], table.concat(inside, ' '), 'PX', whole(expiry))
return {'OK'}
