-- Messages in the order of their creation. ARGV the id before the first ('' for the beginning), limit. Answers {id, record}…
if redis.call('EXISTS', CONVERSATION) == 0 then return {'NONE'} end
local from = 0
if ARGV[1] ~= '' then
  local record = redis.call('HGET', MESSAGES, ARGV[1])
  if not record then return {'NONE'} end
  from = parse(record).index + 1
end
local items = {}
for _, id in ipairs(redis.call('LRANGE', ORDER, from, from + tonumber(ARGV[2]) - 1)) do
  items[#items + 1] = {id, redis.call('HGET', MESSAGES, id)}
end
return {'OK', items}
