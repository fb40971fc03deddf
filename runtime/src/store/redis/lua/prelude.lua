-- Shared by every script. A session's meta hash:
--   r state letter, epoch, space, incarnation   h home
--   n next epoch, space, nonce   t the transfer's or the pointer's place   s since
--   u unsettled, from   k untold
--   p pull: next epoch, incarnation, nonce   g its life's home   f its source
--   l lease: 22 characters of id, then until when   w a freeze waits until
--   a last used   x outbox entries   v version   b bytes
--   e last lease that committed, or the nonce of the install since   i that nonce
--   d last lease that committed before the session left
--   c copy: nonce, changes of fields so far, space, entries that left the window since
-- Beside it, while a copy is under way, the changes: each field that changed, scored
-- with the number of its last change.
-- An empty text and an absent field are the same.
local call = redis.call
local sub = string.sub

local function clock()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text(number)
  return string.format('%d', number)
end

-- The changes and the entries that left the window since the copy `nonce` began.
local function copied(c, nonce)
  if not c or sub(c, 1, 22) ~= nonce then return nil end
  local changes, left = string.match(sub(c, 23), '^(%d+) (%d+)$')
  return tonumber(changes), tonumber(left)
end

local function given(value)
  return value and value ~= ''
end
