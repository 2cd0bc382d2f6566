-- Part of a range as a snapshot needs it: what was kept since for it, oldest first, and what is there now. Whoever
-- asks puts them together, because Lua orders strings by the server's locale.
-- ARGV: prefix, its id, its time to live, its revision, the space, '+' upwards or '-' downwards, the lower and the
-- upper end, the most entries, the most bytes.
if not keep_snapshot(ARGV[2], ARGV[3]) then
  return { 'gone' }
end
local space, upwards, low, high = ARGV[5], ARGV[6] == '+', ARGV[7], ARGV[8]
local limit, most = ARGV[9], tonumber(ARGV[10])

local function read(keys, data)
  local names
  if upwards then
    names = redis.call('ZRANGE', keys, low, high, 'BYLEX', 'LIMIT', 0, limit)
  else
    names = redis.call('ZRANGE', keys, high, low, 'BYLEX', 'REV', 'LIMIT', 0, limit)
  end
  local values, bytes, size, done = {}, 0, 8, 0
  while done < #names and bytes <= most do
    local last = math.min(done + size, #names)
    local part = redis.call('HMGET', data, unpack(names, done + 1, last))
    for i = 1, #part do
      values[done + i] = part[i]
      bytes = bytes + #names[done + i] + (part[i] and #part[i] or 0)
    end
    done = last
    if bytes < 16384 * done / 8 then
      size = math.min(size * 2, 1024)
    end
  end
  local truncated = (#names == tonumber(limit) or done < #names) and 1 or 0
  for i = #names, done + 1, -1 do
    names[i] = nil
  end
  return { names, values, truncated }
end

local parts = {}
for _, revision in ipairs(redis.call('ZRANGEBYSCORE', p .. 'undo', ARGV[4], '+inf')) do
  local kept = p .. 'undo:' .. revision .. ':' .. space
  parts[#parts + 1] = read(kept .. ':keys', kept)
end
parts[#parts + 1] = read(p .. 'k:' .. space, p .. 's:' .. space)
return { 'found', parts }
