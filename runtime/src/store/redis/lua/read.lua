-- Part of a session's data, if the reader's guard still holds.
-- KEYS  meta, data
-- ARGV  1 lease (or empty: by version), 2 epoch and incarnation, 3 home,
--       4 version, 5 `1`: a frozen session may be read
--       6 what: v value, l list, n a list's length, k keys; 7 name
-- Says  fields and contents, flat; nothing if the guard does not hold
local DATA = KEYS[2]
local r, h, l, v = unpack(call('HMGET', KEYS[1], 'r', 'h', 'l', 'v'))
if ARGV[1] ~= '' then
  if not l or sub(l, 1, 22) ~= ARGV[1] then return false end
else
  if not r or sub(r, 2) ~= ARGV[2] or h ~= ARGV[3] or (v or '0') ~= ARGV[4] then return false end
  local state = sub(r, 1, 1)
  if state ~= 'O' and not (state == 'F' and ARGV[5] == '1') then return false end
end

local found = {}
local function take(field)
  local content = call('HGET', DATA, field)
  if content then
    found[#found + 1] = field
    found[#found + 1] = content
  end
  return content
end

local function take_whole(field)
  if take(field) then return end
  local chunks = tonumber(take('h' .. field) or 0) or 0
  for index = 0, chunks - 1 do take('c' .. field .. '\0' .. text(index)) end
end

local what, name = ARGV[6], ARGV[7]
if what == 'v' then
  take_whole('s' .. name)
elseif what == 'n' then
  take('n' .. name)
elseif what == 'l' then
  local items = tonumber(take('n' .. name) or 0) or 0
  for index = 0, items - 1 do take_whole('i' .. name .. '\0' .. text(index)) end
else
  for _, field in ipairs(call('HKEYS', DATA)) do
    local kind = sub(field, 1, 1)
    if kind == 's' or kind == 'n' or sub(field, 1, 2) == 'hs' then
      found[#found + 1] = field
      found[#found + 1] = ''
    end
  end
end
return found
