-- Changes title and pin. ARGV user, title given ('1' or '0'), title, pin ('1', '0', or '' for as it is).
if redis.call('HGET', CONVERSATION, 'u') ~= ARGV[1] then return {'NONE'} end
if ARGV[2] == '1' then redis.call('HSET', CONVERSATION, 't', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', CONVERSATION, 'p', ARGV[4]) end
touch(nil)
return {'OK', describe()}
