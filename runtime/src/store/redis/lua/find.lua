-- One look over the keys, after a restart: which sessions were about to move.
-- ARGV  1 where to go on, 2 what the keys look like, 3 how many to look at,
--       4 `1`: also those that may be in doubt of anything else
-- Says  {where to go on, meta keys}
local found = call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])

local function doubtful(meta)
  if ARGV[4] ~= '1' then
    local intent, pull = unpack(call('HMGET', meta, 'n', 'p'))
    return given(intent) or given(pull)
  end
  -- In a cluster a key may be about to leave: whoever looks closer finds out.
  local found = redis.pcall('HMGET', meta, 'r', 'n', 'u', 'k', 'p', 'x')
  if found.err then return true end
  local state = sub(found[1] or '', 1, 1)
  if state == 'F' or state == 'X' then return true end
  for index = 2, 6 do
    if given(found[index]) then return true end
  end
  return false
end

local metas = {}
for _, meta in ipairs(found[2]) do
  if doubtful(meta) then metas[#metas + 1] = meta end
end
return {found[1], metas}
