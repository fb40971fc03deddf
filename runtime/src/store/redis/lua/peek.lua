-- Looks at what travels with a session.
-- KEYS  meta, data, window, outbox
-- ARGV  1 what: w a window entry, d all data, o outbox; 2 request id or most entries
-- Says  the entry, the fields, the entries; nothing where there is none
if ARGV[1] == 'w' then return call('HGET', KEYS[3], ARGV[2]) end
local state = sub(call('HGET', KEYS[1], 'r') or '', 1, 1)
if ARGV[1] == 'o' then
  if state ~= 'O' or ARGV[2] == '0' then return {} end
  return call('LRANGE', KEYS[4], 0, ARGV[2] - 1)
end
if state ~= 'O' and state ~= 'F' then return false end
return call('HGETALL', KEYS[2])
