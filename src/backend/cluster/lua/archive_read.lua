-- What a history has to take over. ARGV tombstone, from which message on ('' for the first that was not archived), most messages, most
-- bytes. From here on the history may hold something of this conversation, so deleting it leaves a tombstone.
if redis.call('EXISTS', ARGV[1]) == 1 then return {'BURIED'} end
local state = redis.call('HMGET', CONVERSATION, 'v', 'h', 'n')
if not state[1] then return {'NONE'} end
if redis.call('HLEN', OPEN) > 0 then return {'OPEN'} end
if ARGV[2] == '' and state[2] == state[1] then return {'CLEAN'} end
redis.call('HSETNX', CONVERSATION, 'h', '0')
local from = tonumber(ARGV[2] == '' and (state[3] or '0') or ARGV[2])
local most, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local items, total = {}, redis.call('LLEN', ORDER)
for _, id in ipairs(redis.call('LRANGE', ORDER, from, from + most - 1)) do
  local record = redis.call('HGET', MESSAGES, id)
  room = room - #record
  if room < 0 and #items > 0 then break end
  items[#items + 1] = {id, record}
end
return {'PAGE', describe(), whole(from), whole(total), items}
