-- What the store knows of a session except its data.
-- KEYS  meta, data, order, and the meta key of a stage if its completeness is asked
-- Says  {now, slot fields, v, b, number of fields, entries in the window,
--        `1` if the stage is complete}
local staged = KEYS[4] and call('HGET', KEYS[4], 'done') or '0'
local now = clock()
return {
  text(now),
  call('HMGET', KEYS[1], 'r', 'h', 'n', 't', 's', 'u', 'k', 'p', 'g', 'f', 'w', 'l', 'a', 'x'),
  call('HGET', KEYS[1], 'v') or '0',
  call('HGET', KEYS[1], 'b') or '0',
  text(call('HLEN', KEYS[2])),
  text(call('LLEN', KEYS[3])),
  staged or '0',
}
