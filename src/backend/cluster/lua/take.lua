-- Makes the worker the owner, if the lease is free. Older owners are fenced from here on.
-- ARGV generation, nonce, lease ms, ttl ms, the last line of a message whose log was lost.
-- Fields of a state: s stage (q waits, r owned or orphaned, f ended), e epoch, n nonce of the owner, l last sign of life, d last delta
-- or submission, t tail, p tail at the claim, k cancel asked, a attempts, z attempts without progress, g progress since the claim, x released,
-- q microsecond of the submission, o model.
local generation, nonce, lease, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local state = redis.call('HMGET', STATE, 's', 'e', 'n', 'l', 'd', 't', 'k', 'a', 'z', 'g', 'x')
if redis.call('EXISTS', LOG) == 0 and is_owned(STATE, lease) then return {'BUSY', ARGV[3]} end
if not state[1] or redis.call('EXISTS', LOG) == 0 then
  if redis.call('HEXISTS', OPEN, generation) == 0 then return {'GONE'} end
  -- Its log was removed while it was open. Nobody can write it any more, so it ends here instead of waiting for ever.
  redis.call('UNLINK', LOG, STATE)
  close(generation, 'i', ARGV[5])
  return {'LOST'}
end
if state[1] == 'f' then return {'FINAL'} end
local id = redis.call('HGET', GENERATIONS, generation)
local message = id and message_of(id)
if not message then
  -- Nothing to answer: whoever owned it would only find that out after each claim.
  redis.call('UNLINK', LOG, STATE)
  redis.call('HDEL', OPEN, generation)
  return {'LOST'}
end
local now = now_ms()
if state[3] then
  local free = tonumber(state[4]) + lease
  if now < free then return {'BUSY', whole(free - now)} end
end
local attempts, barren = tonumber(state[8]), tonumber(state[9])
if state[11] == '1' and attempts > 0 then
  if state[10] == '1' then barren = 1 end
else
  attempts = attempts + 1
  if state[10] == '1' then barren = 1 else barren = barren + 1 end
end
local epoch = math.max(tonumber(state[2]) + 1, now)
redis.call('HSET', STATE, 's', 'r', 'e', whole(epoch), 'n', nonce, 'l', whole(now), 'a', attempts, 'z', barren, 'g', '0',
  'p', state[6])
redis.call('HDEL', STATE, 'x')
redis.call('PEXPIRE', STATE, ttl)
redis.call('PEXPIRE', LOG, ttl)
message.status = 'r'
store(id, message)
return {'OK', whole(epoch), state[6], attempts, barren, whole(math.max(0, now - tonumber(state[5]))), state[7] or '',
  redis.call('HGET', CONVERSATION, 'u'), id, redis.call('HGET', MESSAGES, id)}
