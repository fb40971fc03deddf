-- Keeps a page of a session that is being pulled. A page may come again.
-- KEYS  meta, then the stage's meta, data, window, order, outbox
-- ARGV  1 nonce, 2 number of fields, fields with contents, number of removed
--       fields, those, number of window entries, each as id, age, entry, number of
--       outbox entries, each as id, entry, and on the last page the totals:
--       fields, bytes, version, window, outbox, idle
-- Says  0 closed, 1 more, 2 complete, 3 mismatch
local STAGE, DATA, WINDOW, ORDER, OUTBOX = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local p = call('HGET', KEYS[1], 'p')
if not p or sub(p, -22) ~= ARGV[1] then return 0 end

local at = 2
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local bytes = tonumber(call('HGET', STAGE, 'b') or 0)
local fresh = bytes == 0
local seen = {}      -- a page may carry a field twice, and not all is stored yet
local set = {}
for _ = 1, tonumber(take()) do
  local field, content = take(), take()
  local old = seen[field]
  if not old and not fresh then
    old = call('HSTRLEN', DATA, field)
    if old == 0 and call('HEXISTS', DATA, field) == 0 then old = nil end
  end
  if old then bytes = bytes - #field - old end
  bytes = bytes + #field + #content
  seen[field] = #content
  set[#set + 1] = field
  set[#set + 1] = content
  if #set == 128 then
    call('HSET', DATA, unpack(set))
    set = {}
  end
end
if #set > 0 then call('HSET', DATA, unpack(set)) end

for _ = 1, tonumber(take()) do
  local field = take()
  local old = call('HSTRLEN', DATA, field)
  if call('HDEL', DATA, field) == 1 then bytes = bytes - #field - old end
end
call('HSET', STAGE, 'b', text(bytes))

local now = clock()
for _ = 1, tonumber(take()) do
  local id, age, entry = take(), take(), take()
  local stamp = string.format('%013d', math.max(0, now - age))
  if call('HSET', WINDOW, id, stamp .. entry) == 1 then call('RPUSH', ORDER, stamp .. id) end
end
for _ = 1, tonumber(take()) do
  local id, entry = take(), take()
  if call('HSETNX', STAGE, 'x' .. id, '1') == 1 then call('RPUSH', OUTBOX, entry) end
end

if at > #ARGV then return 1 end
local fields, total, version = take(), take(), take()
local window, outbox, idle = take(), take(), take()
local complete = call('HLEN', DATA) == tonumber(fields) and bytes == tonumber(total)
  and call('LLEN', ORDER) == tonumber(window) and call('LLEN', OUTBOX) == tonumber(outbox)
call('HSET', STAGE, 'v', version, 'idle', idle, 'done', complete and '1' or '0')
return complete and 2 or 3
