-- The conversation with its open generations: {fields, open}, {generation, message, record}…
local found = {}
local open = redis.call('HGETALL', OPEN)
for i = 1, #open, 2 do
  local status = parse(redis.call('HGET', MESSAGES, open[i + 1])).status
  found[#found + 1] = {open[i], open[i + 1], status}
end
return {'OK', describe(), found}
