-- The history has the conversation as it was at a version, with so many messages. ARGV version, messages.
if redis.call('EXISTS', CONVERSATION) == 0 then return {'NONE'} end
redis.call('HSET', CONVERSATION, 'h', ARGV[1], 'n', ARGV[2])
return {'OK'}
