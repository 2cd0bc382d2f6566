-- Who leads and for how long, the format, and the last stroke of the bell. ARGV: prefix.
local leader = redis.call('HMGET', p .. 'leader', 'epoch', 'node')
local last = redis.call('XREVRANGE', p .. 'seats', '+', '-', 'COUNT', 1)[1]
return {
  leader[1] or '', leader[2] or '', redis.call('PTTL', p .. 'leader'),
  redis.call('GET', p .. 'format') or '', last and last[1] or '0-0',
}
