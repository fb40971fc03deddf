-- One look over the keys, after a restart: which sessions had agreed to a move.
-- ARGV  1 where to go on, 2 what the keys look like, 3 how many to look at
-- Says  {where to go on, meta keys}
local found = call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local moving = {}
for _, meta in ipairs(found[2]) do
  if given(call('HGET', meta, 'n')) then moving[#moving + 1] = meta end
end
return {found[1], moving}
