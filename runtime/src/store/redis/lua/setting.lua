-- Changes a setting of the function at this node; also when memory is short.
-- KEYS  settings
-- ARGV  1 name, 2 value (absent: the setting goes)
-- Says  the old value, or nothing
local old = call('HGET', KEYS[1], ARGV[1])
if ARGV[2] then
  call('HSET', KEYS[1], ARGV[1], ARGV[2])
else
  call('HDEL', KEYS[1], ARGV[1])
end
return old
