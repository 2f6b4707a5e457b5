-- Removes the conversation with all that hangs on it. ARGV user, what keys of logs begin with, what keys of states begin with, tombstone,
-- ticket. The tombstone stays until a history that may hold it has forgotten it too.
-- Answers {generation, model} of those that still stand in a queue.
if redis.call('HGET', CONVERSATION, 'u') ~= ARGV[1] then return {'NONE'} end
local queued = {}
for _, generation in ipairs(redis.call('HKEYS', OPEN)) do
  local model = redis.call('HGET', ARGV[3] .. generation, 'o')
  if model then queued[#queued + 1] = {generation, model} end
end
for _, generation in ipairs(redis.call('HKEYS', GENERATIONS)) do
  redis.call('UNLINK', ARGV[2] .. generation, ARGV[3] .. generation)
end
if redis.call('HEXISTS', CONVERSATION, 'h') == 1 then redis.call('SET', ARGV[4], ARGV[1]) end
redis.call('UNLINK', ARGV[5], CONVERSATION, MESSAGES, CHILDREN, ORDER, BRANCHES, REQUESTS, GENERATIONS, OPEN)
return {'OK', queued}
