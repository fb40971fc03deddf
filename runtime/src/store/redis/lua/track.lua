-- A copy begins: from now on what changes is kept. Begun already, it goes on.
-- KEYS  meta, changes
-- ARGV  1 nonce
-- Says  1 it begins, 0 it went on already, or the session is not in that move
local r, n, c = unpack(call('HMGET', KEYS[1], 'r', 'n', 'c'))
if sub(r or '', 1, 1) ~= 'O' or sub(n or '', -22) ~= ARGV[1] then return 0 end
if copied(c, ARGV[1]) then return 0 end
call('UNLINK', KEYS[2])
call('HSET', KEYS[1], 'c', ARGV[1] .. '0 0')
return 1
