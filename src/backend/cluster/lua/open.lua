-- The conversation with its open generations, oldest first: {fields, open}, {generation, message, status, index}…
-- ARGV what keys of logs begin with, what keys of states begin with, the last line of a message whose log was lost, lease ms.
local found = {}
local open = redis.call('HGETALL', OPEN)
for i = 1, #open, 2 do
  local generation, id = open[i], open[i + 1]
  local log, state = ARGV[1] .. generation, ARGV[2] .. generation
  local message = message_of(id)
  if message and (redis.call('EXISTS', log, state) == 2 or is_owned(state, ARGV[4])) then
    found[#found + 1] = {generation, id, message.status, message.index}
  else
    -- Nobody can write it any more: its log was removed, or waited so long for a worker that it expired.
    redis.call('UNLINK', log, state)
    close(generation, 'i', ARGV[3])
  end
end
table.sort(found, function(a, b) return a[4] < b[4] end)
return {'OK', describe(), found}
