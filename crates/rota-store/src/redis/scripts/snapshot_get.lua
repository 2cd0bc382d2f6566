-- The values of keys in a snapshot. ARGV: prefix, its id, its time to live, its revision, the most bytes, then a
-- space and a key each. Returns fewer where they are too large to be read at once.
if not keep_snapshot(ARGV[2], ARGV[3]) then
  return { 'gone' }
end
local since = redis.call('ZRANGEBYSCORE', p .. 'undo', ARGV[4], '+inf')
local values, bytes, most = {}, 0, tonumber(ARGV[5])
for i = 6, #ARGV, 2 do
  local space, key = ARGV[i], ARGV[i + 1]
  local value
  for s = 1, #since do
    local old = redis.call('HGET', p .. 'undo:' .. since[s] .. ':' .. space, key)
    if old then
      value = string.sub(old, 1, 1) == '1' and string.sub(old, 2)
      break
    end
  end
  if value == nil then
    value = redis.call('HGET', p .. 's:' .. space, key)
  end
  values[#values + 1] = value
  bytes = bytes + (value and #value or 0)
  if bytes > most then
    break
  end
end
return { 'found', values }
