-- Writes entries directly behind a position, or says why not. Everything is checked before the first write, since what a script wrote
-- stays when it fails later.
-- KEYS log, state. ARGV nonce, epoch, previous, progress ('1' when a delta is among them), then head and body of each entry.
local LOG, STATE = KEYS[1], KEYS[2]
local nonce, epoch, previous = ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HMGET', STATE, 's', 'e', 'n', 't', 'k', 'p')
if not state[1] or redis.call('EXISTS', LOG) == 0 then return {'GONE'} end
if state[2] ~= epoch or state[3] ~= nonce then return {'FENCED'} end
if state[1] == 'f' then return {'FINAL'} end
local cancel = state[5] or ''
local tail = state[4]

local first = 0
local seq = string.match(previous, '^' .. epoch .. '%-(%d+)$')
if seq then first = tonumber(seq) + 1 end
local count = (#ARGV - 4) / 2
local last = first + count - 1

local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
if tail ~= previous then
  -- One writer and positions that follow from each other: what is there under my epoch is what I sent before.
  local mine = string.match(tail, '^' .. epoch .. '%-(%d+)$')
  if mine and (seq or previous == state[6]) and tonumber(mine) >= last then
    redis.call('HSET', STATE, 'l', now)
    return {'DUP', cancel}
  end
  return {'TAIL', tail}
end
if count == 0 then
  redis.call('HSET', STATE, 'l', now)
  return {'OK', cancel}
end
for i = 0, count - 1 do
  redis.call('XADD', LOG, 'NOMKSTREAM', epoch .. '-' .. string.format('%.0f', first + i), '1', ARGV[5 + 2 * i], 't', ARGV[6 + 2 * i])
end
local reached = epoch .. '-' .. string.format('%.0f', last)
if ARGV[4] == '1' then
  redis.call('HSET', STATE, 't', reached, 'l', now, 'd', now, 'g', '1')
else
  redis.call('HSET', STATE, 't', reached, 'l', now)
end
return {'OK', cancel}
