-- Does once, on keys that nothing else uses, what the other scripts do, so that a user who may not is found before
-- a script stops in its middle. ARGV: prefix.
local key = p .. 'probe'
local refused

local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    refused = refused or (command .. ': ' .. answer.err)
  end
end

try('DEL', key)
try('HSET', key, 'a', '1', 'b', '2')
try('HSETNX', key, 'c', '3')
try('HINCRBY', key, 'd', 1)
try('HGET', key, 'a')
try('HMGET', key, 'a', 'b')
try('HGETALL', key)
try('HVALS', key)
try('HDEL', key, 'a')
try('PEXPIRE', key, 1000)
try('PTTL', key)
try('UNLINK', key)
try('ZADD', key, 0, 'a', 0, 'b')
try('ZRANGE', key, '-', '+', 'BYLEX', 'LIMIT', 0, 1)
try('ZRANGEBYSCORE', key, '-inf', '+inf')
try('ZREVRANGE', key, 0, 0)
try('ZCOUNT', key, 0, '+inf')
try('ZCARD', key)
try('ZSCORE', key, 'a')
try('ZREM', key, 'a')
try('DEL', key)
try('SADD', key, 'a', 'b')
try('SMEMBERS', key)
try('SREM', key, 'a')
try('DEL', key)
try('XADD', key, 'MAXLEN', 10, '1-0', 'a', 'b')
try('XRANGE', key, '-', '+', 'COUNT', 1)
try('XREVRANGE', key, '+', '-', 'COUNT', 1)
try('XTRIM', key, 'MINID', '2-0')
try('DEL', key)
try('SET', key, '1', 'PX', 1000)
try('GET', key)
try('INCRBY', key, 1)
try('DEL', key)
return refused or 'able'
