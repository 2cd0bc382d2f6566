-- Applies one batch, if the leadership and the position are those it was made for. Whatever could go wrong is
-- looked at before the first write, because Redis rolls nothing back.
--
-- ARGV: prefix, epoch, holder, then the expected epoch, number and seals of the head, the batch's number, the
-- number before which the log is cut off (0: nowhere), the term, the most bytes kept for snapshots, the index of
-- the changes, the number of groups, for each group its operation, space and count, and then all keys and values.
local epoch, holder = ARGV[2], ARGV[3]
local found = position()
if found[6] ~= epoch or found[7] ~= holder
  or found[1] ~= ARGV[4] or found[2] ~= ARGV[5] or found[3] ~= ARGV[6] then
  return { 'refused', found }
end
local seq, cut, term, undo_max, index = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11]
local groups = tonumber(ARGV[12])
local first = 13 + 3 * groups
local now = clock()
local at = text(now)
local count = text(tonumber(found[4]) + 1)

-- The first batch of a leadership says where the one before it ended. A version that does not know of this leaves the
-- words of an earlier leadership.
local former, former_begin = string.match(found[8], '^' .. found[1] .. ' (%S+) (%d+)$')
local begin = string.match(found[8], '^' .. epoch .. ' ' .. holder .. ' (%d+)$')
if not begin then
  begin = found[4]
  if begin ~= '0' then
    redis.pcall('XADD', p .. 'past', 'MAXLEN', 256, found[1] .. '-0', 'holder', former or '',
      'begin', former_begin or '', 'seq', found[2], 'count', found[4], 'at', found[5])
  end
  redis.call('HSET', p .. 'head', 'by', epoch .. ' ' .. holder .. ' ' .. begin)
end
redis.call('XADD', p .. 'log', seq .. '-0', 'prev', found[2], 'prev_holder', former or '', 'epoch', epoch,
  'holder', holder, 'begin', begin, 'count', count, 'at', at, 'index', index, 'data', table.concat(ARGV, '', first))
redis.call('HSET', p .. 'head', 'epoch', epoch, 'seq', seq, 'count', count, 'at', at, 'term', term)
if cut ~= '0' then
  redis.call('XTRIM', p .. 'log', 'MINID', cut .. '-0')
end

-- The newest snapshot, under which the values are kept that this batch replaces.
local undo = redis.call('ZREVRANGE', p .. 'undo', 0, 0)[1]
if undo and redis.call('ZCOUNT', p .. 'snapshots', at, '+inf') == 0 then
  forget_snapshots()
  undo = nil
end
local kept = 0

local function keep(space, data, i, j, step)
  local names, added = {}, {}
  for k = i, j, step do
    names[#names + 1] = ARGV[k]
  end
  local values = redis.call('HMGET', data, unpack(names))
  local into = p .. 'undo:' .. undo .. ':' .. space
  for k = 1, #names do
    local value = values[k] and ('1' .. values[k]) or '0'
    if redis.call('HSETNX', into, names[k], value) == 1 then
      added[#added + 1] = '0'
      added[#added + 1] = names[k]
      kept = kept + #names[k] + #value
    end
  end
  if #added > 0 then
    redis.call('ZADD', into .. ':keys', unpack(added))
    redis.call('SADD', p .. 'undo:keys', into, into .. ':keys')
  end
end

local i = first
for g = 0, groups - 1 do
  local operation, space, number = ARGV[13 + 3 * g], ARGV[14 + 3 * g], tonumber(ARGV[15 + 3 * g])
  local data, keys = p .. 's:' .. space, p .. 'k:' .. space
  local step = (operation == '+') and 2 or 1
  local last = i + number * step - 1
  while i <= last do
    local j = math.min(i + 1000 * step - 1, last)
    if undo then
      keep(space, data, i, j, step)
    end
    if operation == '+' then
      if redis.call('HSET', data, unpack(ARGV, i, j)) > 0 then
        local scored, n = {}, 0
        for k = i, j, 2 do
          scored[n + 1] = '0'
          scored[n + 2] = ARGV[k]
          n = n + 2
        end
        redis.call('ZADD', keys, unpack(scored))
      end
    elseif redis.call('HDEL', data, unpack(ARGV, i, j)) > 0 then
      redis.call('ZREM', keys, unpack(ARGV, i, j))
    end
    i = j + 1
  end
end

if kept > 0 and redis.call('INCRBY', p .. 'undo:bytes', kept) > undo_max then
  forget_snapshots()
end
return { 'landed', count, begin }
