-- Writes the outcome of a protocol step, if what it was decided on still holds.
-- KEYS  meta, changes, then data, window, order, outbox where the payload moves, then
--       the five keys of the stage or of lost+found: meta, data, window, order, outbox;
--       last the turn of the pointers, if the payload's letter is a capital
-- ARGV  1 payload: k keep, d drop, a adopt, s drop stage, l set aside
--       2 `1`: nothing is left to know, 3 `1`: still owned, 4 `1`: a copy ends
--       5 number of fields to compare, those with their texts,
--       number of fields to set, those with their texts (an empty one goes), and the
--       pointers' next turn
-- Says  1 written, 0 somebody was faster, 2 the stage is not complete
local META = KEYS[1]
local payload = string.lower(ARGV[1])

local at = 6
local compared = tonumber(ARGV[5])
local names = {}
for index = 1, compared do names[index] = ARGV[4 + 2 * index] end
for _, value in ipairs(call('HMGET', META, unpack(names))) do
  if (value or '') ~= ARGV[at + 1] then return 0 end
  at = at + 2
end

-- A pointer comes, goes or changes: what anybody remembers of pointers ends here.
if payload ~= ARGV[1] then call('SET', KEYS[#KEYS], ARGV[#ARGV]) end

-- The payload's keys, and those that replace or keep them, in the same order.
local function drop()
  call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
  call('HDEL', META, 'l', 'w', 'a', 'x', 'v', 'b')
end

if payload == 'd' then
  drop()
elseif payload == 's' then
  call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
elseif payload == 'l' then
  for index = 3, 6 do
    if call('EXISTS', KEYS[index]) == 1 then call('RENAME', KEYS[index], KEYS[index + 5]) end
  end
  local kept = call('HMGET', META, 'r', 'h', 'v', 'b')
  call('HSET', KEYS[7], 'r', kept[1] or '', 'h', kept[2] or '', 'v', kept[3] or '0',
    'b', kept[4] or '0', 'at', text(clock()))
  drop()
elseif payload == 'a' then
  local done, bytes, version, idle =
    unpack(call('HMGET', KEYS[7], 'done', 'b', 'v', 'idle'))
  if done ~= '1' then return 2 end
  drop()
  for index = 3, 6 do
    if call('EXISTS', KEYS[index + 5]) == 1 then call('RENAME', KEYS[index + 5], KEYS[index]) end
  end
  call('UNLINK', KEYS[7])
  -- Nobody has committed in this state yet, but the same epoch may have been installed
  -- before, with other data, by a store that forgot it: the attempt's nonce is the
  -- state's name. Who committed before the session left may still ask for his outcome.
  local e, i, p = unpack(call('HMGET', META, 'e', 'i', 'p'))
  local nonce = sub(p or '', -22)
  if given(e) and e ~= i then call('HSET', META, 'd', e) end
  call('HSET', META, 'b', bytes, 'v', version, 'x', text(call('LLEN', KEYS[6])),
    'a', text(math.max(0, clock() - idle)), 'e', nonce, 'i', nonce)
end

if ARGV[2] == '1' then
  call('UNLINK', META, KEYS[2])
  return 1
end
-- Only an owner has a lease or a freeze that waits, whoever took one meanwhile.
if ARGV[3] ~= '1' then call('HDEL', META, 'l', 'w') end
for _ = 1, tonumber(ARGV[at]) do
  local field, value = ARGV[at + 1], ARGV[at + 2]
  if value == '' then call('HDEL', META, field) else call('HSET', META, field, value) end
  at = at + 2
end

-- A copy ends with the move that it is for.
local c, n = unpack(call('HMGET', META, 'c', 'n'))
if given(c) and (ARGV[4] == '1' or sub(c, 1, 22) ~= sub(n or '', -22)) then
  call('HDEL', META, 'c')
  call('UNLINK', KEYS[2])
end
return 1
