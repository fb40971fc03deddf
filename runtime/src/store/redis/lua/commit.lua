-- A writing request ends: everything it changes, or nothing.
-- KEYS  meta, data, window, window order, outbox, changes
-- ARGV  1 lease, 2 the record it ran in, 3 its home, 4 most bytes,
--       5 request id (or empty), 6 window entry, 7 most entries, 8 oldest age,
--       9 number of outbox entries, those entries, then the changes:
--         s key value         a small value     S key n chunk…    a large one
--         a list value        a small item      A list n chunk…   a large one
--         d key               delete            c list            clear a list
-- Says  1 applied, 2 applied before, 3 lease lost, {4, bytes} too large
-- The changes do what `session::fields::apply` does; a plan is made first, so
-- that nothing is written when the session would grow too large.
local META, DATA, WINDOW, ORDER, OUTBOX, CHANGES = unpack(KEYS)
local r, h, l, b, v, c = unpack(call('HMGET', META, 'r', 'h', 'l', 'b', 'v', 'c'))

if not l or sub(l, 1, 22) ~= ARGV[1] then
  local e, i, d = unpack(call('HMGET', META, 'e', 'i', 'd'))
  if (e ~= i and e == ARGV[1]) or d == ARGV[1] then return 2 end
  local known = ARGV[5] ~= '' and call('HGET', WINDOW, ARGV[5])
  if known and sub(known, 14, 35) == ARGV[1] then return 2 end
  return 3
end
if r ~= ARGV[2] or h ~= ARGV[3] then return 3 end

local CHUNK = 131072
local before = tonumber(b or 0)
local bytes = before
local plan = {}      -- field: its new content, or false when it goes
local fresh = before == 0            -- nothing is stored: nothing to look up
local chunked = before > CHUNK       -- only then may there be cut fields

-- The length of a field's content, nil if there is no such field.
local function length(field)
  local planned = plan[field]
  if planned then return #planned end
  if planned == false or fresh then return nil end
  local stored = call('HSTRLEN', DATA, field)
  if stored > 0 or call('HEXISTS', DATA, field) == 1 then return stored end
  return nil
end

local function number(field)
  local content = plan[field]
  if content == nil and not fresh then content = call('HGET', DATA, field) end
  return tonumber(content or 0) or 0
end

local function put(field, content, old)
  bytes = bytes + #content - (old or -#field)
  plan[field] = content
end

local function remove(field)
  local old = length(field)
  if not old then return false end
  bytes = bytes - #field - old
  plan[field] = false
  return true
end

local function clear_chunks(field)
  if not chunked then return end
  for index = 0, number('h' .. field) - 1 do
    remove('c' .. field .. '\0' .. text(index))
  end
  remove('h' .. field)
end

local function clear(field)
  if not remove(field) then clear_chunks(field) end
end

local function write_small(field, content)
  local old = length(field)
  if not old then clear_chunks(field) end
  put(field, content, old)
end

-- Reads its chunks from ARGV[at] on; returns where the next change starts.
local function write_large(field, at)
  clear(field)
  chunked = true
  local chunks = tonumber(ARGV[at])
  for index = 0, chunks - 1 do
    local name = 'c' .. field .. '\0' .. text(index)
    put(name, ARGV[at + 1 + index], length(name))
  end
  put('h' .. field, ARGV[at], length('h' .. field))
  return at + 1 + chunks
end

local function clear_list(list)
  for index = 0, number('n' .. list) - 1 do
    clear('i' .. list .. '\0' .. text(index))
  end
  remove('n' .. list)
end

local function next_item(list)
  local items = number('n' .. list)
  local count = 'n' .. list
  put(count, text(items + 1), length(count))
  return 'i' .. list .. '\0' .. text(items)
end

local outgoing = tonumber(ARGV[9])
local at = 10 + outgoing
local changed = at <= #ARGV
while at <= #ARGV do
  local kind, name = ARGV[at], ARGV[at + 1]
  if kind == 's' then
    write_small('s' .. name, ARGV[at + 2])
    at = at + 3
  elseif kind == 'a' then
    write_small(next_item(name), ARGV[at + 2])
    at = at + 3
  elseif kind == 'S' then
    at = write_large('s' .. name, at + 2)
  elseif kind == 'A' then
    at = write_large(next_item(name), at + 2)
  elseif kind == 'd' then
    clear('s' .. name)
    clear_list(name)
    at = at + 2
  else
    clear_list(name)
    at = at + 2
  end
end

-- What is too large already may still shrink.
if bytes > tonumber(ARGV[4]) and bytes > before then
  call('HSET', META, 'l', '')
  return {4, text(bytes)}
end

-- From here on everything is written.
local set, gone = {}, {}
for field, content in pairs(plan) do
  if content then
    set[#set + 1] = field
    set[#set + 1] = content
    if #set == 128 then
      call('HSET', DATA, unpack(set))
      set = {}
    end
  else
    gone[#gone + 1] = field
    if #gone == 128 then
      call('HDEL', DATA, unpack(gone))
      gone = {}
    end
  end
end
if #set > 0 then call('HSET', DATA, unpack(set)) end
if #gone > 0 and not fresh then call('HDEL', DATA, unpack(gone)) end

local now = clock()
if outgoing > 0 then
  local waiting
  for index = 10, 9 + outgoing do waiting = call('RPUSH', OUTBOX, ARGV[index]) end
  call('HSET', META, 'x', text(waiting))
end

local left = 0       -- entries that leave the window
if ARGV[5] ~= '' then
  local id, stamp = ARGV[5], string.format('%013d', now)
  if call('HSETNX', WINDOW, id, stamp .. ARGV[6]) == 0 then
    -- Committed again: it leaves its place and is the newest now.
    call('LREM', ORDER, -1, sub(call('HGET', WINDOW, id), 1, 13) .. id)
    call('HSET', WINDOW, id, stamp .. ARGV[6])
    left = 1
  end
  local held = call('RPUSH', ORDER, stamp .. id)
  local entries, oldest = tonumber(ARGV[7]), now - ARGV[8]
  while held > 0 do
    local first = call('LINDEX', ORDER, 0)
    if held <= entries and tonumber(sub(first, 1, 13)) >= oldest then break end
    call('LPOP', ORDER)
    call('HDEL', WINDOW, sub(first, 14))
    held = held - 1
    left = left + 1
  end
end

if given(c) then
  -- A copy is under way: this is what it has to carry again.
  local nonce = sub(c, 1, 22)
  local changes, before = copied(c, nonce)
  local noted = {}
  for field in pairs(plan) do
    changes = changes + 1
    noted[#noted + 1] = text(changes)
    noted[#noted + 1] = field
    if #noted == 128 then
      call('ZADD', CHANGES, unpack(noted))
      noted = {}
    end
  end
  if #noted > 0 then call('ZADD', CHANGES, unpack(noted)) end
  if call('ZCARD', CHANGES) > 2 * call('HLEN', DATA) + 65536 then
    -- Fields that come and go must not fill the memory: see `MOST_CHANGES`.
    call('UNLINK', CHANGES)
    call('HDEL', META, 'c')
  else
    call('HSET', META, 'c', nonce .. text(changes) .. ' ' .. text(before + left))
  end
end

if changed then
  call('HSET', META, 'l', '', 'e', ARGV[1], 'a', text(now), 'b', text(bytes),
    'v', text((tonumber(v) or 0) + 1))
else
  call('HSET', META, 'l', '', 'e', ARGV[1], 'a', text(now))
end
return 1
