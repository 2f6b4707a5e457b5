-- The answer leaves its rooms, and what was reserved for it becomes what it used; all of these are of the same slot as it. KEYS answer.
-- ARGV answer, what was used ('' for all that was reserved).
for place in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
  local reserved, budget = string.match(place, '^(%d+)=(.+)$')
  if not reserved then
    redis.call('ZREM', place, ARGV[1])
  elseif redis.call('EXISTS', budget) == 1 then
    redis.call('HINCRBY', budget, 'r', '-' .. reserved)
    redis.call('HINCRBY', budget, 'u', ARGV[2] == '' and reserved or ARGV[2])
  end
end
return redis.call('DEL', KEYS[1])
