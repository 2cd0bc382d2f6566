-- Gives up the seat and the entry among the members, as far as they are this holder's.
-- ARGV: prefix, name, holder, the successor's name ('': none), for how long others let it go first.
local name, holder, successor = ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', p .. 'leader', 'holder') == holder then
  if successor ~= '' then
    local entry = redis.call('HGET', p .. 'nodes', successor)
    local ends = entry and string.match(entry, '^(%d+) ')
    if ends and tonumber(ends) >= clock() then
      redis.call('SET', p .. 'successor', successor, 'PX', ARGV[5])
    end
  end
  redis.call('DEL', p .. 'leader')
  ring('0', '')
end
local entry = redis.call('HGET', p .. 'nodes', name)
if entry and string.match(entry, '^%d+ (%S+) ') == holder then
  redis.call('HDEL', p .. 'nodes', name)
end
return 'left'
