-- Frees a lease or keeps it for longer, if it is still the caller's.
-- KEYS  meta
-- ARGV  1 lease, 2 for how many milliseconds from now, empty: free it
-- Says  1 if it was the caller's, 0 if not
local l = call('HGET', KEYS[1], 'l')
if not l or sub(l, 1, 22) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  call('HSET', KEYS[1], 'l', '')
else
  call('HSET', KEYS[1], 'l', ARGV[1] .. text(clock() + ARGV[2]))
end
return 1
