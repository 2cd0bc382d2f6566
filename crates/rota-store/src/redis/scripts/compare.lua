-- Tells which leaderships wrote what the store has. ARGV: prefix, an epoch.
-- Returns the position, and the former leaderships from that epoch on, with the one before them.
local id = ARGV[2] .. '-0'
local past = redis.call('XREVRANGE', p .. 'past', '(' .. id, '-', 'COUNT', 1)
for _, former in ipairs(redis.call('XRANGE', p .. 'past', id, '+')) do
  past[#past + 1] = former
end
return { position(), past }
