-- A request whose caller knows the data: ARGV 10 is the record, 11 who committed
-- last. If that still holds and nothing is in the way, a write takes the lease and
-- is told the time, a read is told 0. Else `begin.lua` follows. Without its prelude,
-- which costs.
if ARGV[10] ~= '' then
  local m = redis.call('HMGET', KEYS[1], 'r', 'e', 'l', 'u', 'w')
  local l, u, w = m[3], m[4], m[5]
  if m[1] == ARGV[10] and (m[2] or '') == ARGV[11] then
    if ARGV[1] == 'r' and ARGV[9] == '' then return 0 end
    if ARGV[1] == 'w' and (not l or l == '') and (not u or u == '') and (not w or w == '')
      and (ARGV[9] == '' or not redis.call('HGET', KEYS[3], ARGV[9])) then
      local t = redis.call('TIME')
      local now = t[1] * 1000 + math.floor(t[2] / 1000)
      redis.call('HSET', KEYS[1], 'l', ARGV[2] .. (now + ARGV[3]), 'a', now)
      return now
    end
  end
end
