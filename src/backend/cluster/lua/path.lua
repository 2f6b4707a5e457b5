-- A page of the path from the root to a message, leaf side first. ARGV how it ends ('N' newest leaf, 'A' at, 'T' newest leaf below,
-- 'B' before), id, limit. Answers whether there is more above, then {id, record, siblings} of each.
if redis.call('EXISTS', CONVERSATION) == 0 then return {'NONE'} end

-- The newest message below another is the newest of the branches that fork, over however many others, from its branch behind it.
local function newest_below(message)
  local lines, flat = {}, redis.call('HGETALL', BRANCHES)
  for i = 1, #flat, 2 do
    local branch, fork, newest = string.match(flat[i + 1], '^(%S+) (%S+) (%S+)$')
    lines[flat[i]] = {above = branch, fork = tonumber(fork), newest = tonumber(newest)}
  end
  local known = {['-'] = false, [message.branch] = false}
  local function below(name)
    local chain = {}
    while known[name] == nil do
      local line = lines[name]
      if line.above == message.branch then
        known[name] = line.fork >= message.index
      else
        chain[#chain + 1] = name
        name = line.above
      end
    end
    for _, link in ipairs(chain) do known[link] = known[name] end
    return known[name]
  end
  local newest = lines[message.branch].newest
  for name, line in pairs(lines) do
    if line.newest > newest and below(name) then newest = line.newest end
  end
  return newest
end

local id = ARGV[2]
if ARGV[1] == 'N' then
  id = redis.call('LINDEX', ORDER, -1)
  if not id then return {'OK', '0', {}} end
else
  local record = redis.call('HGET', MESSAGES, id)
  if not record then return {'NONE'} end
  local message = parse(record)
  if ARGV[1] == 'T' then id = redis.call('LINDEX', ORDER, newest_below(message)) end
  if ARGV[1] == 'B' then id = message.parent end
end
local items = {}
while id ~= '-' and #items < tonumber(ARGV[3]) do
  local record = redis.call('HGET', MESSAGES, id)
  local parent = string.match(record, '^%d+ %d+ (%S+)')
  items[#items + 1] = {id, record, redis.call('HGET', CHILDREN, parent)}
  id = parent
end
return {'OK', id == '-' and '0' or '1', items}
