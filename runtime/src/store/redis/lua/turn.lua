-- The turn of the pointers, as it is now.
-- KEYS  the turn
return redis.call('GET', KEYS[1]) or ''
