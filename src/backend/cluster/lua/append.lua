-- Writes entries directly behind a position, or says why not. Everything is checked before the first write, since what a script wrote
-- stays when it fails later.
-- KEYS log, state. ARGV nonce, epoch, previous, progress ('1' when a delta is among them), then head and body of each entry.
local LOG, STATE = KEYS[1], KEYS[2]
local nonce, epoch, previous = ARGV[1], ARGV[2], ARGV[3]

-- Tokens that came one by one take four times their text in a stream. So each 32nd entry is written as one block with those directly
-- before it and with the block before them while that is small (entry.rs says how it looks). A stream gives a node's memory back once
-- nothing is left in it, and writes no more into one of 4 KiB (stream-node-max-bytes): a block of that size keeps it for itself.
local EACH, BLOCK_BYTES, LENGTH_MAX = 32, 4096, 127
-- What was gathered before it came here takes little more than its text.
local SMALL = 32

-- Head, lengths and text of the block that ends with a delta, and the entries that it replaces; nothing if there is no such block.
local function block(head, text)
  local kind = head % 4
  if kind > 1 or #text > SMALL then return end
  local begins, lengths, texts, replaced = (head - kind) / 4, {}, {}, {}
  local at = EACH + 1
  lengths[at], texts[at] = string.char(#text), text
  for _, entry in ipairs(redis.call('XREVRANGE', LOG, '+', epoch .. '-0', 'COUNT', EACH)) do
    local fields = entry[2]
    local before, body, is_block = tonumber(fields[2]), fields[#fields], fields[1] == 'b'
    -- Of another kind it is no whole number.
    if (before - kind) / 4 + #body ~= begins then break end
    if is_block and #body + #fields[4] >= BLOCK_BYTES or #body > LENGTH_MAX and not is_block then break end
    at, begins = at - 1, begins - #body
    lengths[at], texts[at] = is_block and fields[4] or string.char(#body), body
    replaced[#replaced + 1] = entry[1]
    if is_block then break end
  end
  if #replaced == 0 then return end
  return string.format('%.0f', begins * 4 + kind), table.concat(lengths, '', at, EACH + 1), table.concat(texts, '', at, EACH + 1), replaced
end

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
  local seq, head, body = first + i, ARGV[5 + 2 * i], ARGV[6 + 2 * i]
  local position = epoch .. '-' .. string.format('%.0f', seq)
  local begins, lengths, text, replaced
  if seq % EACH == EACH - 1 then begins, lengths, text, replaced = block(tonumber(head), body) end
  if replaced then
    -- Full is told by a command that takes memory, and only before the first that writes.
    redis.call('HSET', STATE, 'l', now)
    redis.call('XDEL', LOG, unpack(replaced))
    redis.call('XADD', LOG, 'NOMKSTREAM', position, 'b', begins, 'l', lengths, 't', text)
  else
    redis.call('XADD', LOG, 'NOMKSTREAM', position, '1', head, 't', body)
  end
end
local reached = epoch .. '-' .. string.format('%.0f', last)
if ARGV[4] == '1' then
  redis.call('HSET', STATE, 't', reached, 'l', now, 'd', now, 'g', '1')
else
  redis.call('HSET', STATE, 't', reached, 'l', now)
end
return {'OK', cancel}
