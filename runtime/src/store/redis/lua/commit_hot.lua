-- A writing request ends whose caller knows the data and what becomes of it.
-- KEYS  meta, data
-- ARGV  1 lease, 2 the record it ran in, 3 who committed last before, 4 bytes and
--       5 version afterwards, then fields and contents to set
-- Says  1 applied; 0 if anything is not as the caller thought, or a copy wants to
--       know what changes: `commit.lua` says what to do
local m = redis.call('HMGET', KEYS[1], 'l', 'r', 'e', 'c')
local l, c = m[1], m[4]
if not l or string.sub(l, 1, 22) ~= ARGV[1] or m[2] ~= ARGV[2] or (m[3] or '') ~= ARGV[3]
  or (c and c ~= '') then
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 6))
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'l', '', 'e', ARGV[1], 'b', ARGV[4], 'v', ARGV[5],
  'a', t[1] * 1000 + math.floor(t[2] / 1000))
return 1
