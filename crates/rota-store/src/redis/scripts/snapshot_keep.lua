-- Keeps a snapshot for longer, or with a time to live of 0 ends it. ARGV: prefix, its id, its time to live.
if ARGV[3] == '0' then
  redis.call('ZREM', p .. 'snapshots', ARGV[2])
  redis.call('HDEL', p .. 'snapshots:at', ARGV[2])
  expire_snapshots(clock())
  return 1
end
return keep_snapshot(ARGV[2], ARGV[3]) and 1 or 0
