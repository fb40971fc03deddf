-- Requests whose callers know the data, each for itself: several in one call. Every
-- key, argument and call costs, so that there are few.
-- KEYS  of a read: meta; of a write: meta, data; of a write with an id: meta, data,
--       window, window order
-- ARGV  1 most entries of a window, 2 their oldest age, then of a read:
--         r, record, who committed last
--       of a write:
--         w (i with an id), record, who committed last, lease, version afterwards,
--         bytes if they change (or empty), 1 to note the use (or empty), how many texts
--         of fields and contents, how many fields to remove, those texts, those fields,
--         with an id: the id, the window entry
-- Says  of a read 1 if that still is what is stored, else 0
--       of a write 1 if it is applied, -1 if it was before, 0 if anything is not as the
--       caller thought, or a copy wants to know what changes
--       of either -2 if it met what it did not expect: that is nobody else's trouble
local call = redis.call
local said, key, at = {}, 1, 3
local now, stamp    -- as a number, and as a text: to write a number costs

local function look()
  if now then return end
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
  stamp = string.format('%013d', now)
end

-- What `commit.lua` does with the window.
local function remember(window, order, id, value)
  look()
  call('HSET', window, id, stamp .. value)
  local held = call('RPUSH', order, stamp .. id)
  local entries, oldest = tonumber(ARGV[1]), now - ARGV[2]
  while held > 0 do
    local first = call('LINDEX', order, 0)
    if held <= entries and tonumber(string.sub(first, 1, 13)) >= oldest then break end
    call('LPOP', order)
    call('HDEL', window, string.sub(first, 14))
    held = held - 1
  end
end

local function write(meta, texts, gone)
  local m = call('HMGET', meta, 'e', 'r', 'l', 'u', 'w', 'c')
  local lease = ARGV[at + 3]
  if m[1] == lease then return -1 end
  if (m[1] or '') ~= ARGV[at + 2] or m[2] ~= ARGV[at + 1] then return 0 end
  for place = 3, 6 do
    if m[place] and m[place] ~= '' then return 0 end
  end
  local rest = at + 9 + texts
  local id = ARGV[at] == 'i' and ARGV[rest + gone]
  if id and call('HEXISTS', KEYS[key + 2], id) == 1 then return 0 end
  if texts > 0 then call('HSET', KEYS[key + 1], unpack(ARGV, at + 9, rest - 1)) end
  if gone > 0 then call('HDEL', KEYS[key + 1], unpack(ARGV, rest, rest + gone - 1)) end
  if id then remember(KEYS[key + 2], KEYS[key + 3], id, ARGV[rest + gone + 1]) end
  local version, bytes = ARGV[at + 4], ARGV[at + 5]
  if ARGV[at + 6] ~= '' then
    look()
    if bytes == '' then
      call('HSET', meta, 'e', lease, 'v', version, 'a', stamp)
    else
      call('HSET', meta, 'e', lease, 'v', version, 'a', stamp, 'b', bytes)
    end
    return 1
  end
  if bytes == '' then
    call('HSET', meta, 'e', lease, 'v', version)
  else
    call('HSET', meta, 'e', lease, 'v', version, 'b', bytes)
  end
  return 1
end

local function read(meta)
  local m = call('HMGET', meta, 'r', 'e')
  local same = m[1] == ARGV[at + 1] and (m[2] or '') == ARGV[at + 2]
  return same and 1 or 0
end

while at <= #ARGV do
  if ARGV[at] == 'r' then
    local well, answer = pcall(read, KEYS[key])
    said[#said + 1] = well and answer or -2
    key, at = key + 1, at + 3
  else
    local with_id = ARGV[at] == 'i'
    local texts, gone = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
    local well, answer = pcall(write, KEYS[key], texts, gone)
    said[#said + 1] = well and answer or -2
    key, at = key + (with_id and 4 or 2), at + 9 + texts + gone + (with_id and 2 or 0)
  end
end
return said
