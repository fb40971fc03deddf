-- Removes a delivered outbox entry of a session that is owned here.
-- KEYS  meta, outbox
-- ARGV  1 the entry's id with the separator that follows it
-- Says  how many are left
if sub(call('HGET', KEYS[1], 'r') or '', 1, 1) ~= 'O' then return 0 end
local left = call('LLEN', KEYS[2])
local size = #ARGV[1]
for index = 0, left - 1 do
  local entry = call('LINDEX', KEYS[2], index)
  if sub(entry, 1, size) == ARGV[1] then
    call('LREM', KEYS[2], 1, entry)
    left = left - 1
    if left == 0 then call('HDEL', KEYS[1], 'x') else call('HSET', KEYS[1], 'x', text(left)) end
    break
  end
end
return left
