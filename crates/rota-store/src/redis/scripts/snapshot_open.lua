-- Begins a snapshot of the store as it is. ARGV: prefix, its id, its time to live.
local now = clock()
expire_snapshots(now)
local found = position()
local format = redis.call('GET', p .. 'format') or ''
redis.call('ZADD', p .. 'snapshots', text(now + tonumber(ARGV[3])), ARGV[2])
redis.call('HSET', p .. 'snapshots:at', ARGV[2], found[2])
redis.call('ZADD', p .. 'undo', found[2], found[2])
return { found, format }
