-- Writes the one terminal entry and, with it, the final message. Of a log that was removed only the message is left to write: what its
-- owner holds of it is the only copy.
-- ARGV generation, nonce, epoch, previous, head, body, status letter, the message's last line, ttl ms.
local nonce, epoch, previous = ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HMGET', STATE, 's', 'e', 'n', 't', 'o')
if not state[1] then return {'GONE'} end
if state[2] ~= epoch or state[3] ~= nonce then return {'FENCED'} end
local logged = redis.call('EXISTS', LOG) == 1
local seq = string.match(previous, '^' .. epoch .. '%-(%d+)$')
local position = epoch .. '-' .. string.format('%.0f', seq and tonumber(seq) + 1 or 0)
if state[1] == 'f' then
  local last = redis.call('XRANGE', LOG, position, position)[1]
  local mine = not logged or last and last[2][2] == ARGV[5] and last[2][4] == ARGV[6]
  if state[4] == position and mine then return {'DONE', state[5], describe()} end
  return {'FINAL'}
end
if logged then
  if state[4] ~= previous then return {'TAIL', state[4]} end
  redis.call('XADD', LOG, 'NOMKSTREAM', position, '1', ARGV[5], 't', ARGV[6])
end
redis.call('HSET', STATE, 's', 'f', 't', position)
close(ARGV[1], ARGV[7], ARGV[8])
redis.call('PEXPIRE', STATE, ARGV[9])
redis.call('PEXPIRE', LOG, ARGV[9])
return {'DONE', state[5], describe()}
