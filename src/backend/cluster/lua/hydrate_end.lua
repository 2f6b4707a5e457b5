-- What was staged becomes the conversation, unless somebody was quicker or took the ticket away. KEYS the conversation's eight, then the
-- staged eight. ARGV tombstone, ticket, the caller's ticket, messages, name of this hydration, user, title, pinned, version, created, updated.
local staged = redis.call('LLEN', KEYS[12])
if redis.call('EXISTS', CONVERSATION) == 1 then
  for n = 9, 16 do redis.call('UNLINK', KEYS[n]) end
  return {'HERE', redis.call('HGET', CONVERSATION, 'y') or ''}
end
if redis.call('EXISTS', ARGV[1]) == 1 or redis.call('GET', ARGV[2]) ~= ARGV[3] or staged ~= tonumber(ARGV[4]) then
  for n = 9, 16 do redis.call('UNLINK', KEYS[n]) end
  return {'LOST'}
end
for n = 1, 8 do
  redis.call('UNLINK', KEYS[n])
  if redis.call('EXISTS', KEYS[n + 8]) == 1 then
    redis.call('RENAME', KEYS[n + 8], KEYS[n])
    redis.call('PERSIST', KEYS[n])
  end
end
redis.call('HSET', CONVERSATION, 'u', ARGV[6], 't', ARGV[7], 'p', ARGV[8], 'v', ARGV[9], 'a', ARGV[10], 'b', ARGV[11],
  'h', ARGV[9], 'n', ARGV[4], 'y', ARGV[5])
redis.call('UNLINK', ARGV[2])
return {'HERE', ARGV[5]}
