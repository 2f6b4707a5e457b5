-- A page of a log. KEYS log, state. ARGV after, weight of a page, weight of an entry beside its text, lease ms.
local state = redis.call('HMGET', KEYS[2], 's', 't', 'n', 'l', 'a', 'o', 'q')
if not state[1] or redis.call('EXISTS', KEYS[1]) == 0 then return {'GONE'} end
local stage = state[1]
if stage == 'r' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  if not state[3] or now >= tonumber(state[4]) + tonumber(ARGV[4]) then stage = 'o' end
end
local entries, weight, from = {}, 0, ARGV[1]
local most, each = tonumber(ARGV[2]), tonumber(ARGV[3])
repeat
  local page = redis.call('XRANGE', KEYS[1], '(' .. from, '+', 'COUNT', 64)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    weight = weight + each * (fields[1] == 'b' and #fields[4] or 1) + #fields[#fields]
    if #entries > 0 and weight > most then page = {} break end
    entries[#entries + 1] = entry
    from = entry[1]
  end
until #page < 64 or weight >= most
return {'OK', stage, state[2], state[6], state[7], entries}
