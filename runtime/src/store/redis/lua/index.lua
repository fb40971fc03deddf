-- One change to one key of the function's index; also when memory is short.
-- KEYS  the key
-- ARGV  1 what:
--         pend    members…: scored with the time, so that it is known how old a mark is
--         prune   grace, then members with scores: those go that are older than the
--                 grace and have not been marked again
--         zadd    scores and members…    zrem members…    sadd members…
-- Says  how many changed
local what = ARGV[1]
if what == 'pend' then
  local now = text(clock())
  local added = 0
  for index = 2, #ARGV do added = added + call('ZADD', KEYS[1], now, ARGV[index]) end
  return added
end
if what == 'prune' then
  local limit = clock() - ARGV[2]
  local gone = 0
  for index = 3, #ARGV, 2 do
    local score = call('ZSCORE', KEYS[1], ARGV[index])
    if score and tonumber(score) == tonumber(ARGV[index + 1]) and tonumber(score) <= limit then
      gone = gone + call('ZREM', KEYS[1], ARGV[index])
    end
  end
  return gone
end
return call(string.upper(what), KEYS[1], unpack(ARGV, 2))
