-- The nodes whose entries have not expired. ARGV: prefix.
local now, nodes = clock(), {}
local all = redis.call('HGETALL', p .. 'nodes')
for i = 2, #all, 2 do
  local ends, node = string.match(all[i], '^(%d+) %S+ (.*)$')
  if ends and tonumber(ends) >= now then
    nodes[#nodes + 1] = node
  end
end
return nodes
