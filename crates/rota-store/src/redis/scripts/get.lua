-- The values of keys at one revision. ARGV: prefix, the most bytes, then a space and a key each.
-- Returns fewer where they are too large to be read at once.
local values, bytes, most = {}, 0, tonumber(ARGV[2])
for i = 3, #ARGV, 2 do
  local value = redis.call('HGET', p .. 's:' .. ARGV[i], ARGV[i + 1])
  values[#values + 1] = value
  bytes = bytes + (value and #value or 0)
  if bytes > most then
    break
  end
end
return values
