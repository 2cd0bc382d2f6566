-- Looks for a batch that was seen before. ARGV: prefix, its number.
-- Returns the position, the epoch of that batch if the log has it, and the last batch of the log before it.
local id = ARGV[2] .. '-0'
local function fields(entry)
  local of = {}
  for i = 1, #entry[2], 2 do
    of[entry[2][i]] = entry[2][i + 1]
  end
  return of
end
local same = redis.call('XRANGE', p .. 'log', id, id)[1]
local before = redis.call('XREVRANGE', p .. 'log', '(' .. id, '-', 'COUNT', 1)[1]
before = before and fields(before) or {}
return { position(), same and fields(same).epoch or '', before.count or '', before.at or '' }
