-- A page of a session that is frozen for a move.
-- KEYS  meta, data, window, order, outbox
-- ARGV  1 nonce, 2 section: d data, w window, o outbox, 3 where in it,
--       4 enough bytes for a page, 5 most bytes for a page
-- Says  {now, fields, window as id and entry, outbox, next section, next place,
--        totals: fields, bytes, version, window, outbox, used}; nothing if not frozen
local META, DATA, WINDOW, ORDER, OUTBOX = unpack(KEYS)
local r, n, b, v, a = unpack(call('HMGET', META, 'r', 'n', 'b', 'v', 'a'))
if not r or sub(r, 1, 1) ~= 'F' or sub(n or '', -22) ~= ARGV[1] then return false end

local now = text(clock())
local section, place = ARGV[2], ARGV[3]
local enough, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local fields, window, outbox = {}, {}, {}
local size = 0
local function page(next_section, next_place)
  return {now, fields, window, outbox, next_section, next_place, {}}
end

if section == 'd' then
  -- A session that fits into a page is read at once. Of a larger one each look
  -- takes few fields: any of them may be a chunk of half a MiB.
  local whole = tonumber(b or 0) <= enough
  local look = whole and 1000 or 4
  repeat
    local found = call('HSCAN', DATA, place, 'COUNT', look)
    local batch = 0
    for _, item in ipairs(found[2]) do batch = batch + #item end
    if size > 0 and size + batch > most then return page('d', place) end
    for _, item in ipairs(found[2]) do fields[#fields + 1] = item end
    size = size + batch
    place = found[1]
    -- Small fields lie close together: look further as long as they are small.
    if not whole then look = batch < 16384 and math.min(look * 2, 256) or 4 end
    if size >= enough and place ~= '0' then return page('d', place) end
  until place == '0'
  section, place = 'w', 0
  if size >= enough then return page('w', '0') end
end

if section == 'w' then
  place = tonumber(place)
  while true do
    local ids = call('LRANGE', ORDER, place, place + 15)
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
    place = place + #ids
    if size >= enough then return page('w', text(place)) end
  end
  section, place = 'o', 0
end

place = tonumber(place)
while true do
  local entry = call('LINDEX', OUTBOX, place)
  if not entry then break end
  if size > 0 and size + #entry > most then return page('o', text(place)) end
  outbox[#outbox + 1] = entry
  size = size + #entry
  place = place + 1
  if size >= enough then return page('o', text(place)) end
end
return {now, fields, window, outbox, '', '', {
  text(call('HLEN', DATA)), b or '0', v or '0', text(call('LLEN', ORDER)),
  text(call('LLEN', OUTBOX)), a or '0',
}}
