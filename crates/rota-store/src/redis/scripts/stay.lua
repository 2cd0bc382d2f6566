-- Enters a node among the members or renews its entry, and renews its leadership if it has one.
-- ARGV: prefix, name, holder, node, time to live, a holder whose entry may be replaced, whether its leadership ends
-- then (0: no), the format, the epoch led (0: none).
local name, holder, node, ttl, former, ends_former = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local format, epoch = ARGV[8], ARGV[9]
local found = redis.call('GET', p .. 'format')
if found and found ~= format then
  return { 'format', found }
end
if not found then
  redis.call('SET', p .. 'format', format)
end
local now = clock()
local leads = 0
if epoch ~= '0' then
  local leader = redis.call('HMGET', p .. 'leader', 'holder', 'epoch')
  if leader[1] == holder and leader[2] == epoch then
    redis.call('PEXPIRE', p .. 'leader', ttl)
    leads = 1
  end
end
local entry = redis.call('HGET', p .. 'nodes', name)
if entry then
  local ends, other, rest = string.match(entry, '^(%d+) (%S+) (.*)$')
  if ends and tonumber(ends) >= now and other ~= holder and other ~= former then
    return { 'taken', leads, ends, other, rest }
  end
end
if ends_former ~= '0' and redis.call('HGET', p .. 'leader', 'holder') == former then
  redis.call('DEL', p .. 'leader')
  ring('0', '')
end
redis.call('HSET', p .. 'nodes', name, text(now + tonumber(ttl)) .. ' ' .. holder .. ' ' .. node)
return { 'entered', leads }
