-- A request asks to run: the plain cases of `protocol::begin`, in one round trip.
-- KEYS  meta, data, window
-- ARGV  1 `w` or `r`, 2 lease, 3 its milliseconds, 4 record to create (or empty),
--       5 this node, 6 `1`: frozen reads, 7 the epoch whose source is quiet (or
--       empty), 8 most bytes to return, 9 request id (or empty)
-- Says  {1, created, now, r, h, v, b, fields or nothing, e}
--       {2, window entry, r, h} when the request id is known
--       {0, now, slot fields} in every other case: Rust says why
local META = KEYS[1]
local now = clock()
local write = ARGV[1] == 'w'
local r, h, u, l, w, a, v, b, e =
  unpack(call('HMGET', META, 'r', 'h', 'u', 'l', 'w', 'a', 'v', 'b', 'e'))

local function other()
  return {0, text(now), call('HMGET', META, 'r', 'h', 'n', 't', 's', 'u', 'k', 'p', 'g', 'f',
    'w', 'l', 'a', 'x')}
end

local function run(created)
  local bytes = tonumber(b or 0)
  local fields = false
  if bytes == 0 then
    fields = {}
  -- A hash of very many small fields is read on demand, however few its bytes.
  elseif bytes <= tonumber(ARGV[8]) and (bytes <= 4096 or call('HLEN', KEYS[2]) <= 4096) then
    fields = call('HGETALL', KEYS[2])
  end
  return {1, created, text(now), r, h, v or '0', b or '0', fields, e or ''}
end

local function lease()
  return ARGV[2] .. text(now + ARGV[3])
end

if not r then
  if ARGV[4] == '' or given(call('HGET', META, 'p')) then return other() end
  r, h = ARGV[4], ARGV[5]
  if write then
    call('HSET', META, 'r', r, 'h', h, 'a', text(now), 'l', lease())
  else
    call('HSET', META, 'r', r, 'h', h, 'a', text(now))
  end
  return run(1)
end

local state = sub(r, 1, 1)
if state == 'F' then
  if write or ARGV[6] ~= '1' then return other() end
  return run(0)
end
if state ~= 'O' then return other() end

-- A repeat is answered even while another request holds the lease.
if ARGV[9] ~= '' then
  local entry = call('HGET', KEYS[3], ARGV[9])
  if entry then return {2, entry, r, h} end
end

local used = tonumber(a or 0)
if write then
  if given(l) and tonumber(sub(l, 23)) > now then return other() end
  if given(w) and tonumber(w) > now then return other() end
  if given(u) and ARGV[7] ~= string.match(r, '^O(%d+) ') then return other() end
  -- A freeze whose time is up has given up.
  if given(w) then call('HDEL', META, 'w') end
  call('HSET', META, 'l', lease(), 'a', text(now))
-- Once a second at most.
elseif now - used >= 1000 then
  call('HSET', META, 'a', text(now))
end
return run(0)
