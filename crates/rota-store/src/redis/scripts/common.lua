-- Put in front of every script. All keys begin with ARGV[1], which holds the hash tag.
local p = ARGV[1]

local function text(number)
  return string.format('%.0f', number)
end

-- Milliseconds since 1970 by the server's clock.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Epoch and number of the last batch, how often it was sealed, batches ever, when it landed; epoch and holder
-- of the leadership; epoch and holder of the one that wrote that batch, and how many batches came before its first.
local function position()
  local head = redis.call('HMGET', p .. 'head', 'epoch', 'seq', 'sealed', 'count', 'at', 'by')
  local leader = redis.call('HMGET', p .. 'leader', 'epoch', 'holder')
  return {
    head[1] or '0', head[2] or '0', head[3] or '0', head[4] or '0', head[5] or '0',
    leader[1] or '0', leader[2] or '', head[6] or '',
  }
end

-- Rings the bell that wakes those who wait for the seat.
local function ring(epoch, node)
  redis.call('XADD', p .. 'seats', 'MAXLEN', 100, '*', 'epoch', epoch, 'node', node)
end

-- Forgets all snapshots and what was kept for them.
local function forget_snapshots()
  local kept = redis.call('SMEMBERS', p .. 'undo:keys')
  for i = 1, #kept do
    redis.call('UNLINK', kept[i])
  end
  redis.call('UNLINK', p .. 'undo:keys', p .. 'undo', p .. 'undo:bytes', p .. 'snapshots', p .. 'snapshots:at')
end

-- Forgets snapshots that expired, and what only they needed.
local function expire_snapshots(now)
  local expired = redis.call('ZRANGEBYSCORE', p .. 'snapshots', '-inf', '(' .. text(now))
  for i = 1, #expired do
    redis.call('ZREM', p .. 'snapshots', expired[i])
    redis.call('HDEL', p .. 'snapshots:at', expired[i])
  end
  if redis.call('ZCARD', p .. 'snapshots') == 0 then
    return forget_snapshots()
  end
  local oldest = math.huge
  for _, at in ipairs(redis.call('HVALS', p .. 'snapshots:at')) do
    oldest = math.min(oldest, tonumber(at))
  end
  local unneeded = redis.call('ZRANGEBYSCORE', p .. 'undo', '-inf', '(' .. text(oldest))
  for i = 1, #unneeded do
    local begin = p .. 'undo:' .. unneeded[i] .. ':'
    for _, key in ipairs(redis.call('SMEMBERS', p .. 'undo:keys')) do
      if string.sub(key, 1, #begin) == begin then
        redis.call('UNLINK', key)
        redis.call('SREM', p .. 'undo:keys', key)
      end
    end
    redis.call('ZREM', p .. 'undo', unneeded[i])
  end
end

-- Whether the snapshot is still there; then it lasts for another `ttl`.
local function keep_snapshot(id, ttl)
  local now = clock()
  local ends = redis.call('ZSCORE', p .. 'snapshots', id)
  if not ends or tonumber(ends) < now then
    return false
  end
  redis.call('ZADD', p .. 'snapshots', text(now + tonumber(ttl)), id)
  return true
end
