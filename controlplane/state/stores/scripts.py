"""The atomic steps of a cache node, in Lua. Keys are built from arguments: this is for single nodes, not for a cluster.

What a node keeps, below ``tgs:<generation>:``:
``s:<tenant>:<owner>`` a session, a hash of ``k<key>`` → ``<version> <expires_ms> <flags> <value>`` (flags: 1 sealed, 2 deleted,
4 a hole, its value a mark: a writer is at work until expires_ms); ``i:<tenant>`` sessions by the time at which they end;
``z:<tenant>`` what a session counts: ``<slot> <started_ms> <keys> <bytes> <shadow_touched_ms>``; ``u:<tenant>`` keys and bytes of
all; ``t`` the tenants; ``x:<slot>`` the sessions of a slot; ``held`` which slots are served (``S``), are coming (``I``) or went
(``M``), ``frozen`` which are being copied; ``o:<id>`` operations that were carried out, ``O:<slot>`` those of a slot; ``e:<tenant>:<owner>`` a session that was
erased a moment ago. ``tgs:mark`` is the generation in force: a script of another one does nothing.
"""

from __future__ import annotations

_START = """
local gen, slot, tenant, owner, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local P = 'tgs:' .. gen .. ':'
local clock = redis.call('TIME')
local us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(us / 1000)
local S = P .. 's:' .. tenant .. ':' .. owner
local function n(x) return string.format('%.0f', x) end
local function unserved(writing)
  if redis.call('GET', 'tgs:mark') ~= gen then return {'lost'} end
  local held = redis.call('HGET', P .. 'held', slot)
  if not held then return {'moved', ''} end
  local how = string.sub(held, 1, 1)
  if how == 'M' then
    local epoch, to = string.match(held, '^M (%d+) (%d+)')
    return {'moved', to, epoch}
  end
  if how ~= 'S' then return {'moved', ''} end
  if writing then
    local until_ms = redis.call('HGET', P .. 'frozen', slot)
    if until_ms and tonumber(string.match(until_ms, '^%d+')) > now then return {'frozen'} end
  end
end
local function parse(field)
  if not field then return 0, 0, 0, 0, false end
  local version, expires, flags, at = string.match(field, '^(%d+) (%d+) (%d+) ()')
  flags = tonumber(flags); expires = tonumber(expires)
  local live = flags < 2 and (expires == 0 or expires > now)
  return tonumber(version), expires, flags, #field - at + 1, live
end
local function meta()
  local z = redis.call('HGET', P .. 'z:' .. tenant, owner)
  if z and redis.call('EXISTS', S) == 1 then
    local started, keys, bytes, touched = string.match(z, '^%d+ (%d+) (-?%d+) (-?%d+) (%d+)')
    return tonumber(started), tonumber(keys), tonumber(bytes), tonumber(touched)
  end
end
local function stay(started, keys, bytes, touched)
  redis.call('HSET', P .. 'z:' .. tenant, owner,
    slot .. ' ' .. n(started) .. ' ' .. n(keys) .. ' ' .. n(bytes) .. ' ' .. n(touched))
  redis.call('PEXPIRE', S, ttl)
  redis.call('ZADD', P .. 'i:' .. tenant, n(now + ttl), owner)
end
local function forget()
  local z = redis.call('HGET', P .. 'z:' .. tenant, owner)
  if not z then return 0 end
  local at, keys, bytes = string.match(z, '^(%d+) %d+ (-?%d+) (-?%d+)')
  redis.call('HINCRBY', P .. 'u:' .. tenant, 'keys', -tonumber(keys))
  redis.call('HINCRBY', P .. 'u:' .. tenant, 'bytes', -tonumber(bytes))
  redis.call('HDEL', P .. 'z:' .. tenant, owner)
  redis.call('ZREM', P .. 'i:' .. tenant, owner)
  redis.call('SREM', P .. 'x:' .. at, tenant .. ':' .. owner)
  return tonumber(keys)
end
local function begin_if_new()
  local started, keys, bytes, touched = meta()
  if started then return started, keys, bytes, touched end
  forget()
  redis.call('SADD', P .. 't', tenant)
  redis.call('SADD', P .. 'x:' .. slot, tenant .. ':' .. owner)
  return now, 0, 0, now
end
local function write(key, field, more_keys, more_bytes)
  local started, keys, bytes, touched = begin_if_new()
  redis.call('HSET', S, 'k' .. key, field)
  redis.call('HINCRBY', P .. 'u:' .. tenant, 'keys', more_keys)
  redis.call('HINCRBY', P .. 'u:' .. tenant, 'bytes', more_bytes)
  stay(started, keys + more_keys, bytes + more_bytes, touched)
end
"""

# ARGV: …, how often the shadow is to be touched in ms (0: there is none), field…  → ok, now, due, fields
READ = (
    _START
    + """
local away = unserved(false)
if away then return away end
local fields = {}
for at = 7, #ARGV do fields[#fields + 1] = 'k' .. ARGV[at] end
local values = #fields > 0 and redis.call('HMGET', S, unpack(fields)) or redis.call('HGETALL', S)
local due = 0
local every = tonumber(ARGV[6])
if redis.call('PEXPIRE', S, ttl) == 1 then
  redis.call('ZADD', P .. 'i:' .. tenant, n(now + ttl), owner)
  if every > 0 then
    local started, keys, bytes, touched = meta()
    if started and now - touched > every then
      due = 1
      stay(started, keys, bytes, now)
    end
  end
end
return {'ok', n(now), due, values}
"""
)

# ARGV: …, key, expected (-1 any), deleted, sealed, value, ttl_ms (-1 none), op, result, op memory in ms
PUT = (
    _START
    + """
local away = unserved(true)
if away then return away end
local key, expected, op = ARGV[6], tonumber(ARGV[7]), ARGV[12]
if op ~= '' then
  local before = redis.call('GET', P .. 'o:' .. op)
  if before then
    local version, result = string.match(before, '^(%d+) (.*)$')
    return {'done', version, result}
  end
end
local version, expires, flags, length, live = parse(redis.call('HGET', S, 'k' .. key))
local current = live and version or 0
if expected >= 0 and expected ~= current then return {'conflict', n(current)} end
local new = math.max(version + 1, us)
local had = flags < 2 and version > 0
local keys, bytes = had and -1 or 0, had and -(#key + length) or 0
local status = 'ok'
if ARGV[8] == '1' then
  if not live then status = 'absent' end
  if version > 0 then write(key, n(new) .. ' 0 2 ', keys, bytes) end
else
  local until_ms = ARGV[11] == '-1' and 0 or now + tonumber(ARGV[11])
  write(key, n(new) .. ' ' .. n(until_ms) .. ' ' .. ARGV[9] .. ' ' .. ARGV[10], keys + 1, bytes + #key + #ARGV[10])
end
if op ~= '' then
  redis.call('SET', P .. 'o:' .. op, n(new) .. ' ' .. ARGV[13], 'PX', ARGV[14])
  redis.call('ZREMRANGEBYSCORE', P .. 'O:' .. slot, '-inf', n(now))
  redis.call('ZADD', P .. 'O:' .. slot, n(now + tonumber(ARGV[14])), op)
end
return {status, n(new), ARGV[13]}
"""
)

# What a database has is brought up. ARGV: …, key, version, deleted, sealed, value, expires in ms (-1 never),
# the mark of the writer's own hole, which alone may be closed before its time
FILL = (
    _START
    + """
local away = unserved(true)
if away then return away end
local key, new = ARGV[6], tonumber(ARGV[7])
local field = redis.call('HGET', S, 'k' .. key)
local version, expires, flags, length = parse(field)
local own = ARGV[12] ~= '' and field and string.match(field, '^%d+ %d+ 4 (.*)$') == ARGV[12]
if not own then
  if redis.call('EXISTS', P .. 'e:' .. tenant .. ':' .. owner) == 1 then return {'ok'} end
  if flags >= 4 and expires > now then return {'ok'} end
  if version > new or (version == new and flags < 4) then return {'ok'} end
end
local had = flags < 2 and version > 0
local keys, bytes = had and -1 or 0, had and -(#key + length) or 0
if ARGV[8] == '1' then
  write(key, n(new) .. ' 0 2 ', keys, bytes)
else
  local until_ms = ARGV[11] == '-1' and 0 or now + tonumber(ARGV[11])
  write(key, n(new) .. ' ' .. n(until_ms) .. ' ' .. ARGV[9] .. ' ' .. ARGV[10], keys + 1, bytes + #key + #ARGV[10])
end
return {'ok'}
"""
)

# A writer is about to write to the database below. ARGV: …, key, for how long in ms, mark  → ok, now, what was there
HOLE = (
    _START
    + """
local away = unserved(true)
if away then return away end
local key = ARGV[6]
local field = redis.call('HGET', S, 'k' .. key)
local version, expires, flags, length = parse(field)
local had = flags < 2 and version > 0
write(key, n(version) .. ' ' .. n(now + tonumber(ARGV[7])) .. ' 4 ' .. ARGV[8],
  had and -1 or 0, had and -(#key + length) or 0)
return {'ok', n(now), field}
"""
)

# ARGV: …, for how long readers may not bring anything up, in ms  → ok, how many keys there were
ERASE = (
    _START
    + """
local away = unserved(true)
if away then return away end
redis.call('SET', P .. 'e:' .. tenant .. ':' .. owner, '1', 'PX', ARGV[6])
redis.call('DEL', S)
return {'ok', forget()}
"""
)

# Sessions that have ended are counted out. ARGV: gen, '0', tenant, '', '0', most  → ok, how many
SWEEP = (
    _START
    + """
if redis.call('GET', 'tgs:mark') ~= gen then return {'lost'} end
local over = redis.call('ZRANGEBYSCORE', P .. 'i:' .. tenant, '-inf', n(now), 'LIMIT', 0, ARGV[6])
for _, each in ipairs(over) do
  owner = each
  local left = redis.call('PTTL', P .. 's:' .. tenant .. ':' .. owner)
  if left > 0 then redis.call('ZADD', P .. 'i:' .. tenant, n(now + left), owner) else forget() end
end
return {'ok', #over}
"""
)

# A cache takes up its work in a new generation, once. ARGV: gen, slot…  → the generation in force
BEGIN = """
local gen = ARGV[1]
local mark = redis.call('GET', 'tgs:mark')
if mark and tonumber(mark) >= tonumber(gen) then return mark end
redis.call('DEL', 'tgs:' .. gen .. ':held', 'tgs:' .. gen .. ':frozen')
for at = 2, #ARGV do redis.call('HSET', 'tgs:' .. gen .. ':held', ARGV[at], 'S 0') end
redis.call('SET', 'tgs:mark', gen)
return gen
"""

# The hand-over of slots (controlplane/state/stores/moving.py). ARGV: gen, slot, …
_MOVE = """
local gen, slot = ARGV[1], ARGV[2]
local P = 'tgs:' .. gen .. ':'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if redis.call('GET', 'tgs:mark') ~= gen then return {'lost'} end
local held = redis.call('HGET', P .. 'held', slot) or ''
local function forget(member)
  local tenant, owner = string.match(member, '^([^:]*):(.*)$')
  local z = redis.call('HGET', P .. 'z:' .. tenant, owner)
  if z then
    local keys, bytes = string.match(z, '^%d+ %d+ (-?%d+) (-?%d+)')
    redis.call('HINCRBY', P .. 'u:' .. tenant, 'keys', -tonumber(keys))
    redis.call('HINCRBY', P .. 'u:' .. tenant, 'bytes', -tonumber(bytes))
  end
  redis.call('HDEL', P .. 'z:' .. tenant, owner)
  redis.call('ZREM', P .. 'i:' .. tenant, owner)
  redis.call('DEL', P .. 's:' .. member)
end
"""

# …, for how long in ms, token, 1 to renew the frost of that token only → ok, epoch
FREEZE = (
    _MOVE
    + """
if string.sub(held, 1, 1) ~= 'S' then return {'moved', ''} end
local frozen = redis.call('HGET', P .. 'frozen', slot)
if ARGV[5] == '1' and (not frozen or string.match(frozen, ' (.*)$') ~= ARGV[4]) then return {'ok', '0'} end
redis.call('HSET', P .. 'frozen', slot, string.format('%.0f', now + tonumber(ARGV[3])) .. ' ' .. ARGV[4])
return {'ok', string.match(held, '%d+')}
"""
)

# …, token, epoch, to → ok, 1 when it was handed over
HAND_OVER = (
    _MOVE
    + """
local frozen = redis.call('HGET', P .. 'frozen', slot)
if not frozen or string.sub(held, 1, 1) ~= 'S' then return {'ok', 0} end
local until_ms, token = string.match(frozen, '^(%d+) (.*)$')
if token ~= ARGV[3] or tonumber(until_ms) <= now then return {'ok', 0} end
redis.call('HSET', P .. 'held', slot, 'M ' .. ARGV[4] .. ' ' .. ARGV[5])
redis.call('HDEL', P .. 'frozen', slot)
return {'ok', 1}
"""
)

# …, epoch
ADOPT = (
    _MOVE
    + """
if held == 'I ' .. ARGV[3] then redis.call('HSET', P .. 'held', slot, 'S ' .. ARGV[3]) end
return {'ok'}
"""
)

# …, epoch ('' to leave it as it is) → ok. Nothing is cleared that is served.
CLEAR = (
    _MOVE
    + """
if string.sub(held, 1, 1) == 'S' then return {'ok', 0} end
for _, member in ipairs(redis.call('SMEMBERS', P .. 'x:' .. slot)) do forget(member) end
for _, op in ipairs(redis.call('ZRANGE', P .. 'O:' .. slot, 0, -1)) do redis.call('DEL', P .. 'o:' .. op) end
redis.call('DEL', P .. 'x:' .. slot, P .. 'O:' .. slot)
if ARGV[3] ~= '' then redis.call('HSET', P .. 'held', slot, 'I ' .. ARGV[3]) end
return {'ok', 1}
"""
)

# …, epoch, member, how long it lives in ms, what it counts, its dump
TAKE_SESSION = (
    _MOVE
    + """
if held ~= 'I ' .. ARGV[3] then return {'moved', ''} end
local member, z = ARGV[4], ARGV[6]
local tenant, owner = string.match(member, '^([^:]*):(.*)$')
redis.call('RESTORE', P .. 's:' .. member, ARGV[5], ARGV[7], 'REPLACE')
local keys, bytes = string.match(z, '^%d+ %d+ (-?%d+) (-?%d+)')
redis.call('HSET', P .. 'z:' .. tenant, owner, z)
redis.call('ZADD', P .. 'i:' .. tenant, string.format('%.0f', now + tonumber(ARGV[5])), owner)
redis.call('HINCRBY', P .. 'u:' .. tenant, 'keys', keys)
redis.call('HINCRBY', P .. 'u:' .. tenant, 'bytes', bytes)
redis.call('SADD', P .. 't', tenant)
redis.call('SADD', P .. 'x:' .. slot, member)
return {'ok'}
"""
)

# …, epoch, operation, how long it is remembered in ms, what is remembered
TAKE_OP = (
    _MOVE
    + """
if held ~= 'I ' .. ARGV[3] then return {'moved', ''} end
redis.call('SET', P .. 'o:' .. ARGV[4], ARGV[6], 'PX', ARGV[5])
redis.call('ZADD', P .. 'O:' .. slot, string.format('%.0f', now + tonumber(ARGV[5])), ARGV[4])
return {'ok'}
"""
)
