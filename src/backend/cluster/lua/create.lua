-- Stores a conversation with messages that are not being generated. ARGV user, title, pinned, version, created, updated, then for each
-- message its id, parent, status letter and two lines.
local owner = redis.call('HGET', CONVERSATION, 'u')
if owner then
  if owner == ARGV[1] then return {'AGAIN', describe()} end
  return {'NONE'}
end
redis.call('HSET', CONVERSATION, 'u', ARGV[1], 't', ARGV[2], 'p', ARGV[3], 'v', ARGV[4], 'a', ARGV[5], 'b', ARGV[6])
for i = 7, #ARGV, 5 do
  insert(ARGV[i], ARGV[i + 1], ARGV[i + 2], '\n' .. ARGV[i + 3] .. '\n' .. ARGV[i + 4])
end
return {'OK', describe()}
