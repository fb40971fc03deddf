-- Keeps a page of a session that is being pulled. A page may come again.
-- KEYS  meta, then the stage's meta, data, window, order, outbox
-- ARGV  1 nonce, 2 `1`: the first page, which replaces what is there, 3 number of
--       fields, fields with contents, number of removed fields, those, number of
--       window entries, each as id, age, entry, number of outbox entries, each as id,
--       entry, and on the last page the oldest id in the window (or empty) and the
--       totals: fields, bytes, version, window, outbox, idle
-- Says  0 closed, 1 more, 2 complete, 3 mismatch
local STAGE, DATA, WINDOW, ORDER, OUTBOX = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local p = call('HGET', KEYS[1], 'p')
if not p or sub(p, -22) ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then call('UNLINK', STAGE, DATA, WINDOW, ORDER, OUTBOX) end

local at = 3
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
  if call('HSETNX', WINDOW, id, stamp .. entry) == 0 then
    call('LREM', ORDER, -1, sub(call('HGET', WINDOW, id), 1, 13) .. id)
    call('HSET', WINDOW, id, stamp .. entry)
  end
  call('RPUSH', ORDER, stamp .. id)
end
for _ = 1, tonumber(take()) do
  local id, entry = take(), take()
  if call('HSETNX', STAGE, 'x' .. id, '1') == 1 then call('RPUSH', OUTBOX, entry) end
end

if at > #ARGV then return 1 end
local oldest = take()
local fields, total, version = take(), take(), take()
local held, outbox, idle = take(), take(), take()
if held == '0' then
  call('UNLINK', WINDOW, ORDER)
elseif oldest ~= '' and call('HEXISTS', WINDOW, oldest) == 1 then
  -- Entries that a copy brought and that have left the window since.
  while true do
    local id = sub(call('LINDEX', ORDER, 0), 14)
    if id == oldest then break end
    call('LPOP', ORDER)
    call('HDEL', WINDOW, id)
  end
end
local first = call('LINDEX', ORDER, 0)
local complete = call('HLEN', DATA) == tonumber(fields) and bytes == tonumber(total)
  and (oldest == '' or (first and sub(first, 14) == oldest))
  and call('LLEN', ORDER) == tonumber(held) and call('LLEN', OUTBOX) == tonumber(outbox)
call('HSET', STAGE, 'v', version, 'idle', idle, 'done', complete and '1' or '0')
return complete and 2 or 3
