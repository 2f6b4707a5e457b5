-- Begins every script that works on a conversation's slot. The keys are always the same, in this order; the last two only
-- where one generation is meant.
local CONVERSATION, MESSAGES, CHILDREN, ORDER, BRANCHES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local REQUESTS, GENERATIONS, OPEN, LOG, STATE = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]

-- Milliseconds of this server: leases are compared on the server that holds them, so no other clock counts.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The fields of the conversation, then how many of its generations are open.
local function describe()
  return {redis.call('HMGET', CONVERSATION, 'u', 't', 'p', 'v', 'a', 'b'), redis.call('HLEN', OPEN)}
end

-- A record as {index, branch, parent, status, rest}; the rest begins with the line break behind the head. Nothing when it is damaged.
local function parse(record)
  local index, branch, parent, status, rest = string.match(record, '^(%d+) (%d+) (%S+) (%a)()')
  if not rest then return nil end
  return {index = tonumber(index), branch = branch, parent = parent, status = status, rest = string.sub(record, rest)}
end

-- Nothing when it is not there, or damaged.
local function message_of(id)
  local record = redis.call('HGET', MESSAGES, id)
  return record and parse(record)
end

local function store(id, message)
  local head = message.index .. ' ' .. message.branch .. ' ' .. message.parent .. ' ' .. message.status
  redis.call('HSET', MESSAGES, id, head .. message.rest)
end

-- Appends a message to the tree. The first child of a message goes on in its branch; every other one, and every root, begins a branch,
-- so that the newest message below another is found by looking at branches, not at messages.
local function insert(id, parent, status, rest)
  local siblings = redis.call('HGET', CHILDREN, parent)
  local index = redis.call('RPUSH', ORDER, id) - 1
  local above = nil
  if parent ~= '-' then above = parse(redis.call('HGET', MESSAGES, parent)) end
  local branch
  if above and not siblings then
    branch = above.branch
    local line = redis.call('HGET', BRANCHES, branch)
    redis.call('HSET', BRANCHES, branch, string.match(line, '^%S+ %S+ ') .. index)
  else
    branch = tostring(redis.call('HLEN', BRANCHES))
    local fork = '- -1 '
    if above then fork = above.branch .. ' ' .. above.index .. ' ' end
    redis.call('HSET', BRANCHES, branch, fork .. index)
  end
  redis.call('HSET', CHILDREN, parent, (siblings or '') .. id)
  store(id, {index = index, branch = branch, parent = parent, status = status, rest = rest})
end

-- Raises the version, and lets `updated` only grow.
local function touch(at)
  redis.call('HINCRBY', CONVERSATION, 'v', 1)
  local updated = redis.call('HGET', CONVERSATION, 'b')
  if at and tonumber(at) > tonumber(updated) then redis.call('HSET', CONVERSATION, 'b', at) end
end

-- Its owner gave a sign of life within the lease (ms), so whatever is wrong with its log is the owner's to end.
local function is_owned(state, lease)
  local held = redis.call('HMGET', state, 's', 'n', 'l')
  return held[1] == 'r' and held[2] and now_ms() < tonumber(held[3]) + tonumber(lease)
end

-- The generation has ended with this status: changes its message (its last line too, where one is given) and closes it.
local function close(generation, status, written)
  local id = redis.call('HGET', GENERATIONS, generation)
  local message = id and message_of(id)
  if message then
    message.status = status
    if written then message.rest = string.match(message.rest, '^\n[^\n]*\n') .. written end
    store(id, message)
  end
  redis.call('HDEL', OPEN, generation)
  touch(whole(now_ms()))
end
