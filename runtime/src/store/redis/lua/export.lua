-- A page of a session that is frozen for a move, or copied before it.
-- KEYS  meta, data, window, order, outbox, changes
-- ARGV  1 nonce, 2 `1` frozen, 3 section (empty: from the start): d data, c changes,
--       w window, o outbox, 4 version (empty: of a copy), 5 changes and 6 entries of
--       the window that have been sent, 7 where in the section, 8 enough bytes for a
--       page, 9 most bytes, 10 most fields
-- Says  0 not in that move, 1 what changed since is not known, else
--       {2, now, fields, removed, window as id and entry, outbox,
--        next section, version, changes, window, place,
--        of a copy: walked, changes sent, changes,
--        at the end: oldest in the window, fields, bytes, version, window, outbox, used}
local META, DATA, WINDOW, ORDER, OUTBOX, CHANGES = unpack(KEYS)
local r, n, c, b, v, a = unpack(call('HMGET', META, 'r', 'n', 'c', 'b', 'v', 'a'))
local state, frozen = sub(r or '', 1, 1), ARGV[2] == '1'
if sub(n or '', -22) ~= ARGV[1] then return 0 end
-- Frozen by a restart: what was copied may be what was forgotten.
if state == 'F' and not frozen then return 1 end
if state ~= (frozen and 'F' or 'O') then return 0 end

v = v or '0'
local changes, left = copied(c, ARGV[1])
local section, place = ARGV[3], ARGV[7]
local sent, seen = tonumber(ARGV[5]), tonumber(ARGV[6])
if section == '' then
  if not frozen and not changes then return 1 end
  section, place, sent, seen = 'd', '0', changes or 0, 0
else
  if ARGV[4] ~= '' and (not frozen or ARGV[4] ~= v) then return 1 end
  if (ARGV[4] == '' or section == 'c') and not changes then return 1 end
  -- Counted further than there is: the copy has begun again since.
  if changes and (sent > changes or seen > left + call('LLEN', ORDER)) then return 1 end
  -- Fields may have changed since, and go first.
  if ARGV[4] == '' and section == 'w' then section = 'c' end
end

local now = text(clock())
local enough, most, most_fields = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local fields, removed, window, outbox = {}, {}, {}, {}
local size, count = 0, 0
local function full()
  return size >= enough or count >= most_fields
end

local function page(ended)
  local answer = {2, now, fields, removed, window, outbox, section, frozen and v or '',
    text(sent), text(seen), place, {}, {}}
  if frozen then
    if ended then
      local oldest = call('LINDEX', ORDER, 0)
      answer[13] = {oldest and sub(oldest, 14) or '', text(call('HLEN', DATA)), b or '0', v,
        text(call('LLEN', ORDER)), text(call('LLEN', OUTBOX)), a or '0'}
    end
  else
    local walked = section ~= 'd' and 1 or 0
    if ended then answer[7] = 'c' end
    answer[12] = {walked, text(sent + seen), text(changes + left + call('LLEN', ORDER))}
  end
  return answer
end

if section == 'd' then
  -- A session that fits into a page is read at once. Of a larger one each look takes
  -- as many fields as make up some of a page on average, for any may be large.
  local held, bytes = call('HLEN', DATA), tonumber(b or 0)
  local look = 1000
  if bytes > enough then
    look = math.max(1, math.min(500, math.floor(enough / 4 * held / bytes)))
  end
  repeat
    local found = call('HSCAN', DATA, place, 'COUNT', look)
    local batch = 0
    for _, item in ipairs(found[2]) do batch = batch + #item end
    if size > 0 and size + batch > most then return page(false) end
    for _, item in ipairs(found[2]) do fields[#fields + 1] = item end
    size = size + batch
    count = count + #found[2] / 2
    place = found[1]
    if full() and place ~= '0' then return page(false) end
  until place == '0'
  section = changes and 'c' or 'w'
end

if section == 'c' then
  while true do
    if full() then return page(false) end
    local found = call('ZRANGE', CHANGES, '(' .. text(sent), '+inf', 'BYSCORE',
      'LIMIT', 0, 16, 'WITHSCORES')
    if #found == 0 then break end
    for index = 1, #found, 2 do
      local field = found[index]
      local content = call('HGET', DATA, field)
      local bytes = #field + (content and #content or 0)
      if size > 0 and size + bytes > enough then return page(false) end
      if content then
        fields[#fields + 1] = field
        fields[#fields + 1] = content
      else
        removed[#removed + 1] = field
      end
      size = size + bytes
      count = count + 1
      sent = tonumber(found[index + 1])
    end
  end
  sent = changes
  section = 'w'
end

if section == 'w' then
  left = left or 0
  seen = math.max(seen, left)
  while true do
    if full() then return page(false) end
    local ids = call('LRANGE', ORDER, seen - left, seen - left + 15)
    if #ids == 0 then break end
    for _, listed in ipairs(ids) do
      local id = sub(listed, 14)
      local entry = call('HGET', WINDOW, id)
      if entry then
        window[#window + 1] = id
        window[#window + 1] = entry
        size = size + #id + #entry
      end
    end
    count = count + #ids
    seen = seen + #ids
  end
  section, place = 'o', '0'
end
if not frozen then return page(true) end

local waiting = tonumber(place)
while true do
  place = text(waiting)
  if full() then return page(false) end
  local entry = call('LINDEX', OUTBOX, waiting)
  if not entry then return page(true) end
  if size > 0 and size + #entry > most then return page(false) end
  outbox[#outbox + 1] = entry
  size = size + #entry
  count = count + 1
  waiting = waiting + 1
end
