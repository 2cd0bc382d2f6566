-- Takes the seat if it is free. ARGV: prefix, name, holder, node, time to live, a number that the epoch exceeds.
local name, holder, node, ttl = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local leader = redis.call('HMGET', p .. 'leader', 'holder', 'epoch')
if leader[1] == holder then
  redis.call('PEXPIRE', p .. 'leader', ttl)
  return { 'taken', leader[2], position(), redis.call('HGET', p .. 'head', 'term') or '0' }
end
if leader[1] then
  return { 'occupied', redis.call('PTTL', p .. 'leader') }
end
local successor = redis.call('GET', p .. 'successor')
if successor and successor ~= name then
  return { 'promised', redis.call('PTTL', p .. 'successor') }
end
redis.call('DEL', p .. 'successor')
local epoch = text(math.max(tonumber(redis.call('GET', p .. 'epoch') or '0'), tonumber(ARGV[6])) + 1)
redis.call('SET', p .. 'epoch', epoch)
redis.call('DEL', p .. 'leader')
redis.call('HSET', p .. 'leader', 'epoch', epoch, 'holder', holder, 'node', node)
redis.call('PEXPIRE', p .. 'leader', ttl)
ring(epoch, name)
return { 'taken', epoch, position(), redis.call('HGET', p .. 'head', 'term') or '0' }
