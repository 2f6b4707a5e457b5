-- Asks for the end, or ends what nobody ever began.
-- ARGV generation, head and body of the terminal entry, ttl ms, lease ms.
local generation = ARGV[1]
local id = redis.call('HGET', GENERATIONS, generation)
if not id then return {'GONE'} end
local message = message_of(id)
if not message then return {'GONE'} end
if redis.call('HEXISTS', OPEN, generation) == 0 then return {'ENDED', message.status} end
local state = redis.call('HMGET', STATE, 's', 'e', 'a', 'o')
local logged = redis.call('EXISTS', LOG) == 1
-- Begun: its owner ends it, also when its log was removed, or the next one does.
if state[1] and (logged and state[3] ~= '0' or not logged and is_owned(STATE, ARGV[5])) then
  redis.call('HSETNX', STATE, 'k', whole(now_ms()))
  return {'ASKED'}
end
if not state[1] or not logged then
  -- Open, but its log was removed: nobody can end it any more, so this does.
  redis.call('UNLINK', LOG, STATE)
  close(generation, 'x', nil)
  return {'NOW', '', describe()}
end
local position = whole(math.max(tonumber(state[2]) + 1, now_ms())) .. '-0'
redis.call('XADD', LOG, 'NOMKSTREAM', position, '1', ARGV[2], 't', ARGV[3])
redis.call('HSET', STATE, 's', 'f', 't', position, 'k', whole(now_ms()))
close(generation, 'x', nil)
redis.call('PEXPIRE', STATE, ARGV[4])
redis.call('PEXPIRE', LOG, ARGV[4])
return {'NOW', state[4], describe()}
