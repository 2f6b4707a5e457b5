-- The history may have something of the conversation, so that deleting it leaves a tombstone.
if redis.call('EXISTS', CONVERSATION) == 0 then return 0 end
return redis.call('HSETNX', CONVERSATION, 'h', '0')
