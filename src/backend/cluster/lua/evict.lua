-- Leaves the conversation to the history, if that has all of it and nobody touched it for a while. What is being written changed it and
-- is not archived. ARGV ticket, for how long (ms), version and messages that the history was just seen to have.
-- Logs of ended answers stay until they expire.
local state = redis.call('HMGET', CONVERSATION, 'v', 'h', 'u', 'b')
if not state[1] then return {'NONE'} end
if state[1] ~= state[2] then return {'DIRTY'} end
if tonumber(ARGV[3]) < tonumber(state[1]) or tonumber(ARGV[4]) < redis.call('LLEN', ORDER) then
  -- It has lost what it had.
  redis.call('HSET', CONVERSATION, 'h', '0', 'n', '0')
  return {'DIRTY'}
end
local least = tonumber(ARGV[2])
if least > 0 then
  -- Nothing above touched the messages, so this is since somebody read or wrote one. Where the server counts otherwise, and where
  -- there is no message, the last change says it.
  local idle = redis.pcall('OBJECT', 'IDLETIME', MESSAGES)
  local ms = type(idle) == 'number' and idle * 1000 or now_ms() - tonumber(state[4])
  if ms < least then return {'YOUNG', whole(least - ms)} end
end
redis.call('UNLINK', CONVERSATION, MESSAGES, CHILDREN, ORDER, BRANCHES, REQUESTS, GENERATIONS, OPEN, ARGV[1])
return {'EVICTED', state[3]}
