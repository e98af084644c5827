"""What Redis does atomically, in Lua. Runs on Redis 6.2 and later, on one server (names are built by the callers).

`micros()` is Redis' own clock: the hosts need not agree on the time. No script brings back a hash that is gone,
and each looks at a bounded number of keys, so that none holds Redis up.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str

    @classmethod
    def of(cls, *parts: str) -> Script:
        text = "\n".join(parts)
        return cls(text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest())


_MICROS = """
local function micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
"""

# --- the control plane writes ---------------------------------------------------------------------------------------

# Fields beside those of records.Endpoint: `rank` (how far its status is; statuses only go forward) and `told_at`
# (when `publish` last wrote it), with which a late or an outdated write is told from news.
#
# KEYS[1] = WITHDRAWN; then per instance its hash and its model's set.
# ARGV: as_of (micros; '' = one publish), INSTANCE_TTL, number of fields; then per instance: id, '1' if it is to be
# routed, rank, last_heartbeat of a healthy worker ('' = unknown), names and values of the fields.
PUBLISH = Script.of(
    _MICROS,
    """
local as_of, ttl, width = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]) * 2
local now = micros()

-- One publish never goes back, however late it arrives: neither to an earlier status nor from withdrawn.
-- A rebuild yields to what was told after its data was read, unless it knows of a later status.
local function is_stale(hash, rank)
  local withdrawn = tonumber(redis.call('ZSCORE', KEYS[1], hash) or nil)
  local known = redis.call('HMGET', hash, 'rank', 'told_at')
  local known_rank, told_at = tonumber(known[1] or -1), tonumber(known[2] or 0)
  if not as_of then
    return withdrawn or rank < known_rank
  end
  return (withdrawn and withdrawn > as_of) or (told_at > as_of and rank <= known_rank)
end

local at = 4
for i = 2, #KEYS, 2 do
  local hash, members = KEYS[i], KEYS[i + 1]
  local id, routed, rank, heartbeat = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  if not is_stale(hash, rank) then
    if as_of then
      redis.call('HSET', hash, 'rank', rank, unpack(ARGV, at + 4, at + 3 + width))
      redis.call('ZREM', KEYS[1], hash)
    else
      redis.call('HSET', hash, 'rank', rank, 'told_at', string.format('%.0f', now))
      for field = at + 4, at + 3 + width, 2 do
        -- What one writer has learned (an address, a token), another that has not must not wipe out.
        if ARGV[field + 1] ~= '' or redis.call('HEXISTS', hash, ARGV[field]) == 0 then
          redis.call('HSET', hash, ARGV[field], ARGV[field + 1])
        end
      end
    end
    if heartbeat ~= '' and redis.call('HSETNX', hash, 'last_heartbeat', heartbeat) == 1 then
      redis.call('HSETNX', hash, 'ready', '1')
    end
    redis.call('EXPIRE', hash, ttl)
    if routed == '1' then
      redis.call('SADD', members, id)
    else
      redis.call('SREM', members, id)
    end
  end
  at = at + 4 + width
end
""",
)

# KEYS: WITHDRAWN, the instance's hash, its model's set. ARGV: id, WITHDRAWN_TTL.
WITHDRAW = Script.of(
    _MICROS,
    """
local now = micros()
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), KEYS[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2] * 1000000))
""",
)

# KEYS: WITHDRAWN, then per client key its hash. ARGV: as_of (micros; '' = one publish), API_KEY_TTL, number of
# fields; then per key the names and values of its fields.
PUBLISH_KEYS = Script.of(
    _MICROS,
    """
local as_of, ttl, width = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]) * 2
local at = 4
for i = 2, #KEYS do
  local revoked = tonumber(redis.call('ZSCORE', KEYS[1], KEYS[i]) or nil)
  local told_at = tonumber(redis.call('HGET', KEYS[i], 'told_at') or 0)
  if not as_of or not ((revoked and revoked > as_of) or told_at > as_of) then
    redis.call('HSET', KEYS[i], unpack(ARGV, at, at + width - 1))
    redis.call('ZREM', KEYS[1], KEYS[i])
    if not as_of then
      redis.call('HSET', KEYS[i], 'told_at', string.format('%.0f', micros()))
    end
    redis.call('EXPIRE', KEYS[i], ttl)
  end
  at = at + width
end
""",
)

# KEYS: WITHDRAWN, the key's hash. ARGV: WITHDRAWN_TTL.
REVOKE_KEY = Script.of(
    _MICROS,
    """
local now = micros()
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), KEYS[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[1] * 1000000))
""",
)

# Hashes that the truth does not know. KEYS: the hashes. ARGV: as_of (micros).
REMOVE_STRANGERS = Script.of(
    """
for _, hash in ipairs(KEYS) do
  if tonumber(redis.call('HGET', hash, 'told_at') or 0) <= tonumber(ARGV[1]) then
    redis.call('DEL', hash)
  end
end
"""
)

# Members that the truth does not know. KEYS[1] = the set, then per member its hash. ARGV: as_of (micros), the ids.
REMOVE_MEMBERS = Script.of(
    """
for i = 2, #KEYS do
  if tonumber(redis.call('HGET', KEYS[i], 'told_at') or 0) <= tonumber(ARGV[1]) then
    redis.call('SREM', KEYS[1], ARGV[i])
  end
end
"""
)

# The index is whole from here on, unless a flush overtook the rebuild.
# KEYS: REBUILDING, EPOCH. ARGV: the rebuild's token, now (ISO 8601), EPOCH_TTL.
FINISH_REBUILD = Script.of(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SETNX', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""
)

# Set aside what was refused so far, unless what was set aside before is not written down yet.
# KEYS: REFUSALS, REFUSALS_TAKEN. Answers the fields and values that are set aside.
TAKE_REFUSALS = Script.of(
    """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
return redis.call('HGETALL', KEYS[2])
"""
)

# What is written down; a late call leaves what was set aside since. KEYS: REFUSALS_TAKEN. ARGV: fields and values.
FORGET_REFUSALS = Script.of(
    """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
"""
)

# --- the router reads (how it takes an instance and gives it back: see `taking`) --------------------------------------

# Whether an instance takes requests, and its load: routed by the control plane, healthy and heard of lately.
_LOAD_IF_READY = """
local function load_if_ready(hash, now, stale_after)
  local seen = redis.call('HMGET', hash, 'status', 'ready', 'last_heartbeat', 'current_load')
  local heartbeat = tonumber(seen[3] or nil)
  if seen[1] ~= 'READY' or seen[2] ~= '1' or not heartbeat or now - heartbeat > stale_after then
    return nil
  end
  return tonumber(seen[4] or 0)
end

local function seconds()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000, tonumber(time[2])
end
"""

# What is refused leaves the instance's hash as it was, and a trace in REFUSALS. An instance whose address is not known
# yet counts as unknown (it is not published before), and a token is only wrong where the right one is known.
#
# KEYS: the instance's hash, EPOCH, REFUSALS. ARGV: id, SHA-256 of the token, the sender's address, REFUSALS_KEPT,
# REFUSALS_TTL, INSTANCE_TTL, ready ('1' or '0'), load, detail, interruption.
# Answers {'heard', status} or {'token' | 'address' | 'unknown' | 'lost', ''}.
HEARTBEAT = Script.of(
    """
local id, token, address = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = string.format('%s.%06d', time[1], time[2])

local function refuse(reason)
  local field = id .. '|' .. reason .. '|' .. address
  local seen = redis.call('HGET', KEYS[3], field)
  if seen or redis.call('HLEN', KEYS[3]) < tonumber(ARGV[4]) then
    local first, times = string.match(seen or now .. ' - 0', '^(%S+) %S+ (%d+)$')
    redis.call('HSET', KEYS[3], field, first .. ' ' .. now .. ' ' .. string.format('%d', times + 1))
    redis.call('EXPIRE', KEYS[3], ARGV[5])
  end
  return {reason, ''}
end

local known = redis.call('HMGET', KEYS[1], 'agent_token_sha256', 'status', 'ip')
if not known[2] or not known[3] or known[3] == '' then
  return {redis.call('EXISTS', KEYS[2]) == 1 and 'unknown' or 'lost', ''}
end
if not known[1] or known[1] == '' then
  return {'token', ''}
end
if known[1] ~= token then
  return refuse('token')
end
if known[3] ~= address then
  return refuse('address')
end
redis.call('HSET', KEYS[1],
  'last_heartbeat', now, 'ready', ARGV[7], 'worker_load', ARGV[8], 'current_load', ARGV[8],
  'detail', ARGV[9], 'interruption', ARGV[10])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return {'heard', known[2]}
"""
)

# KEYS: the client key's hash, EPOCH. Answers {'found', its fields and values...} or {'unknown' | 'lost'}.
FIND_KEY = Script.of(
    """
local found = redis.call('HGETALL', KEYS[1])
if #found == 0 then
  return {redis.call('EXISTS', KEYS[2]) == 1 and 'unknown' or 'lost'}
end
table.insert(found, 1, 'found')
return found
"""
)

# The models that at least one instance takes requests for. Of a large set a sample is looked at.
# KEYS: MODELS, EPOCH. ARGV: stale_after (seconds), prefix of the hashes' names, prefix and suffix of the sets' names.
# Answers {'whole' | 'lost', JSON of a records.ServedModel...}.
SERVED_MODELS = Script.of(
    _LOAD_IF_READY,
    """
local SAMPLE = 32
local now = seconds()
local served = {redis.call('EXISTS', KEYS[2]) == 1 and 'whole' or 'lost'}
local models = redis.call('HGETALL', KEYS[1])
for i = 1, #models, 2 do
  for _, id in ipairs(redis.call('SRANDMEMBER', ARGV[3] .. models[i] .. ARGV[4], SAMPLE)) do
    if load_if_ready(ARGV[2] .. id, now, tonumber(ARGV[1])) then
      table.insert(served, models[i + 1])
      break
    end
  end
end
return served
""",
)

# All models, for the snapshot. KEYS: MODELS, EPOCH. Answers {'whole' | 'lost', JSON of a records.ServedModel...}.
ALL_MODELS = Script.of(
    """
local all = redis.call('HVALS', KEYS[1])
table.insert(all, 1, redis.call('EXISTS', KEYS[2]) == 1 and 'whole' or 'lost')
return all
"""
)

# A page of a model's instances that take requests, for the snapshot.
# KEYS: the model's set, EPOCH. ARGV: stale_after (seconds), prefix of the hashes' names, cursor.
# Answers {'whole' | 'lost', next cursor, {id, ip, port, api_key, load, capacity, weight, id, ip, ...}}.
SNAPSHOT_PAGE = Script.of(
    _LOAD_IF_READY,
    """
local PAGE = 128
local now = seconds()
local page = redis.call('SSCAN', KEYS[1], ARGV[3], 'COUNT', PAGE)
local found = {}
for _, id in ipairs(page[2]) do
  local hash = ARGV[2] .. id
  local load = load_if_ready(hash, now, tonumber(ARGV[1]))
  if load then
    local known = redis.call('HMGET', hash, 'ip', 'port', 'api_key', 'capacity', 'weight')
    for _, value in ipairs({id, known[1], known[2], known[3], load, known[4] or '0', known[5] or '1'}) do
      table.insert(found, value)
    end
  end
end
return {redis.call('EXISTS', KEYS[2]) == 1 and 'whole' or 'lost', page[1], found}
""",
)

FOR_ROUTER = (HEARTBEAT, FIND_KEY, SERVED_MODELS, ALL_MODELS, SNAPSHOT_PAGE)
