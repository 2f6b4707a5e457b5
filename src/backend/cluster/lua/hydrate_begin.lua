-- Whether the conversation is here, and since which hydration; if not, a ticket to bring it. ARGV tombstone, ticket, a new ticket ('' to
-- ask only), its time to live in ms. What a ticket brings was read after it was made: eviction and deletion take it away.
if redis.call('EXISTS', CONVERSATION) == 1 then return {'HERE', redis.call('HGET', CONVERSATION, 'y') or ''} end
if redis.call('EXISTS', ARGV[1]) == 1 then return {'BURIED'} end
if ARGV[3] == '' then return {'AWAY'} end
redis.call('SET', ARGV[2], ARGV[3], 'NX', 'PX', ARGV[4])
redis.call('PEXPIRE', ARGV[2], ARGV[4])
return {'TICKET', redis.call('GET', ARGV[2])}
