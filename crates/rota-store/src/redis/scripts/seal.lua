-- Shuts out every batch of this leadership that was sent before. ARGV: prefix, epoch, holder.
local found = position()
if found[6] == ARGV[2] and found[7] == ARGV[3] then
  found[3] = text(redis.call('HINCRBY', p .. 'head', 'sealed', 1))
end
return found
