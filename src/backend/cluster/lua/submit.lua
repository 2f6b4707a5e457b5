-- Stores the question and the empty answer, and opens its log; or answers what the same request did before.
-- ARGV user, request, create ('1', '0', or '?' to ask only what it did before), title, at, parent ('N' for the newest, '-' or an id), question id ('' for none), its two
-- lines, answer id, its two lines, generation, model, ttl ms.
local user, request, at, question, answer = ARGV[1], ARGV[2], ARGV[5], ARGV[7], ARGV[10]
local generation, ttl = ARGV[13], ARGV[15]

local function result(word, answer, generation)
  local record = redis.call('HGET', MESSAGES, answer)
  local asked = parse(record).parent
  local waits = redis.call('HEXISTS', OPEN, generation) == 1 and redis.call('HMGET', STATE, 'q', 'o') or {}
  return {word, describe(), asked, redis.call('HGET', MESSAGES, asked), answer, record, generation, waits}
end

local owner = redis.call('HGET', CONVERSATION, 'u')
if owner and owner ~= user then return {'NONE'} end
local before = redis.call('HGET', REQUESTS, request)
if before then
  local answer, generation = string.match(before, '^(%S+) (%S+)$')
  STATE = string.sub(STATE, 1, #STATE - #ARGV[13]) .. generation
  return result('AGAIN', answer, generation)
end
if ARGV[3] == '?' or not owner and ARGV[3] ~= '1' then return {'NONE'} end
local parent = ARGV[6]
if parent == 'N' then
  parent = redis.call('LINDEX', ORDER, -1) or '-'
elseif parent ~= '-' and redis.call('HEXISTS', MESSAGES, parent) == 0 then
  return {'NONE'}
end
if question == '' and parent == '-' then return {'NONE'} end

if not owner then
  redis.call('HSET', CONVERSATION, 'u', user, 't', ARGV[4], 'p', '0', 'v', '0', 'a', at, 'b', at)
end
if question ~= '' then
  insert(question, parent, 'c', '\n' .. ARGV[8] .. '\n' .. ARGV[9])
  parent = question
end
insert(answer, parent, 'q', '\n' .. ARGV[11] .. '\n' .. ARGV[12])
redis.call('HSET', GENERATIONS, generation, answer)
redis.call('HSET', OPEN, generation, answer)
redis.call('HSET', REQUESTS, request, answer .. ' ' .. generation)
-- Adding and removing an entry leaves an empty stream, which is how the log's being there is known: only this script makes one.
redis.call('XADD', LOG, '0-1', '1', '0', 't', '')
redis.call('XDEL', LOG, '0-1')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', STATE, 's', 'q', 'e', '0', 't', '0-0', 'a', '0', 'z', '0', 'd', whole(now),
  'q', whole(t[1] * 1000000 + t[2]), 'o', ARGV[14])
redis.call('PEXPIRE', STATE, ttl)
redis.call('PEXPIRE', LOG, ttl)
touch(at)
return result('OK', answer, generation)
