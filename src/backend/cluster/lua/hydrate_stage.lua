-- Puts messages beside the conversation's keys, under names of the caller's own. KEYS are those. ARGV how many are there, time to live in
-- ms, then for each message its id, parent, status letter, two lines, generation and request ('' for none).
if redis.call('LLEN', ORDER) ~= tonumber(ARGV[1]) then return {'LOST'} end
for i = 3, #ARGV, 7 do
  insert(ARGV[i], ARGV[i + 1], ARGV[i + 2], '\n' .. ARGV[i + 3] .. '\n' .. ARGV[i + 4])
  if ARGV[i + 5] ~= '' then redis.call('HSET', GENERATIONS, ARGV[i + 5], ARGV[i]) end
  if ARGV[i + 6] ~= '' then redis.call('HSET', REQUESTS, ARGV[i + 6], ARGV[i] .. ' ' .. ARGV[i + 5]) end
end
for n = 1, 8 do redis.call('PEXPIRE', KEYS[n], ARGV[2]) end
return {'OK'}
