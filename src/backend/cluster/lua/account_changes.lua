-- Whose rights were taken away. KEYS changes. ARGV after ('' for where it ends), most. Answers where to go on from, '1' when some
-- are not told any more, then the users.
local function last()
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  return newest and newest[1] or '0-0'
end
local after = ARGV[1]
if after == '' then return {last(), '0'} end
-- With the one that was told last: where it is gone, others may be gone as well.
local found = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', ARGV[2] + 1)
local anybody = '0'
local from = 1
if found[1] and found[1][1] == after then
  from = 2
elseif after ~= '0-0' then
  anybody = '1'
end
local answer = {after, anybody}
for i = from, math.min(#found, from + ARGV[2] - 1) do
  answer[1] = found[i][1]
  answer[#answer + 1] = found[i][2][2]
end
if anybody == '1' and #found == 0 then answer[1] = last() end
return answer
