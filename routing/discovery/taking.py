"""Taking an instance for a request and giving it back, in Lua: selection, a key's limits, the circuit breaker.

All that a request needs of Redis before it leaves is one script. See `scripts` for the house rules of Lua.

Beside what `records.Endpoint` names, an instance's hash may hold what routers learned of it:
`failures`        how often in a row it failed; gone after a success
`ejections`       how often in a row it was taken out of routing; gone after a success
`ejected_until`   it gets nothing before this instant (micros); after it one request at a time, to see (half-open)
`probing`         "1" while that one is under way
"""

from __future__ import annotations

from routing.discovery.scripts import Script

# --- the circuit breaker ---------------------------------------------------------------------------------------------

_FAILURES_IN_A_ROW = 5  # until an instance that answers, but badly, is taken out; a refused connection does at once
_FIRST_EJECTION, _LONGEST_EJECTION = 2.0, 60.0  # seconds; doubled each time that the probe fails
_PROBE_FOR = 10.0  # seconds that a probe may take until another one is sent

AILMENTS = ("failures", "ejections", "ejected_until", "probing")  # what a success wipes out

# KEYS: the instance's hash. ARGV: '1' if it is to be taken out at once.
# Answers for how many milliseconds it has just been taken out of routing; 0 = not, or it was out already.
FAILED = Script.of(
    f"""
local FAILURES, FIRST, LONGEST = {_FAILURES_IN_A_ROW}, {_FIRST_EJECTION * 1e6:.0f}, {_LONGEST_EJECTION * 1e6:.0f}
""",
    """
local known = redis.call('HMGET', KEYS[1], 'status', 'ejections', 'ejected_until', 'probing')
if not known[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ejections, probing = tonumber(known[2] or 0), known[4] == '1'
if tonumber(known[3] or 0) > now and not probing then
  return 0  -- requests that were on their way when it was taken out say nothing new
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
if ARGV[1] ~= '1' and ejections == 0 and failures < FAILURES then
  return 0
end
local out_for = math.min(FIRST * 2 ^ math.min(ejections, 10), LONGEST)
redis.call('HSET', KEYS[1], 'failures', 0, 'probing', '0', 'ejections', ejections + 1,
  'ejected_until', string.format('%.0f', now + out_for))
return math.floor(out_for / 1000)
""",
)

# --- a key's limits --------------------------------------------------------------------------------------------------

# Token buckets that fill in a minute: in any t seconds no more than limit * (1 + t / 60). Tokens are reserved by an
# estimate, and settled when the engine has counted them; what that was too little, the next requests wait for.
# What runs is counted by router, so that what a router took with it when it died counts for ROUTER_TTL at most.
_LIMITS = """
local function bucket(level, limit, since)
  return math.min(limit, (level or limit) + since * limit / 60000000)
end

local function wait_for(level, wanted, limit)
  return math.ceil(math.max(0, wanted - level) * 60000 / limit)
end

-- KEYS[4..6] = LIMITS, RUNNING, SPENT. ARGV from `at`: requests a minute, tokens a minute, concurrency, tokens a month,
-- micros a month (each 0 = none), router id, prefix of ROUTER, LIMITS_TTL, RUNNING_TTL, estimate of the tokens.
-- Answers what refuses ('' = nothing), milliseconds to wait, requests left, ms until full, tokens left, ms until full.
local function admit(at, now)
  local rpm, tpm, concurrency = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local month_tokens, month_micros = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if month_tokens > 0 or month_micros > 0 then
    local spent = redis.call('HMGET', KEYS[6], 'tokens', 'micros')
    if (month_tokens > 0 and tonumber(spent[1] or 0) >= month_tokens)
      or (month_micros > 0 and tonumber(spent[2] or 0) >= month_micros) then
      return {'budget', 0, 0, 0, 0, 0}
    end
  end
  if concurrency > 0 then
    local running = 0
    local by_router = redis.call('HGETALL', KEYS[5])
    for i = 1, #by_router, 2 do
      if by_router[i] == ARGV[at + 5] or redis.call('EXISTS', ARGV[at + 6] .. by_router[i]) == 1 then
        running = running + tonumber(by_router[i + 1])
      else
        redis.call('HDEL', KEYS[5], by_router[i])
      end
    end
    if running >= concurrency then
      return {'concurrency', 1000, 0, 0, 0, 0}
    end
  end
  local left, full_in, tokens_left, tokens_full_in = 0, 0, 0, 0
  if rpm > 0 or tpm > 0 then
    local seen = redis.call('HMGET', KEYS[4], 'requests', 'tokens', 'at')
    local since = math.max(0, now - tonumber(seen[3] or now))
    local fields = {}
    if rpm > 0 then
      local level = bucket(tonumber(seen[1] or nil), rpm, since)
      if level < 1 then
        return {'requests', wait_for(level, 1, rpm), 0, wait_for(level, rpm, rpm), 0, 0}
      end
      level = level - 1
      left, full_in = math.floor(level), wait_for(level, rpm, rpm)
      fields = {'requests', string.format('%.6f', level)}
    end
    if tpm > 0 then
      local level = bucket(tonumber(seen[2] or nil), tpm, since)
      local wanted = math.min(tonumber(ARGV[at + 9]), tpm)  -- a request larger than the limit gets a full bucket
      if level < wanted then
        return {'tokens', wait_for(level, wanted, tpm), left, full_in,
          math.max(0, math.floor(level)), wait_for(level, tpm, tpm)}
      end
      level = level - wanted
      tokens_left, tokens_full_in = math.floor(level), wait_for(level, tpm, tpm)
      table.insert(fields, 'tokens')
      table.insert(fields, string.format('%.6f', level))
    end
    redis.call('HSET', KEYS[4], 'at', string.format('%.0f', now), unpack(fields))
    redis.call('EXPIRE', KEYS[4], ARGV[at + 7])
  end
  if concurrency > 0 then
    redis.call('HINCRBY', KEYS[5], ARGV[at + 5], 1)
    redis.call('EXPIRE', KEYS[5], ARGV[at + 8])
  end
  return {'', 0, left, full_in, tokens_left, tokens_full_in}
end
"""

# What a request really took. ARGV: tokens a minute (0 = no limit), '1' if it counts as running, router id, '1' if
# there is a budget, SPENT_TTL, tokens that were reserved and were used, micros.
_SETTLE = """
local function settle(limits, running, spent)
  local tpm = tonumber(ARGV[1])
  if tpm > 0 then
    local level = tonumber(redis.call('HGET', limits, 'tokens') or nil)
    if level then
      local back = math.min(tonumber(ARGV[6]), tpm) - tonumber(ARGV[7])
      redis.call('HSET', limits, 'tokens', string.format('%.6f', math.min(tpm, level + back)))
    end
  end
  if ARGV[2] == '1' and tonumber(redis.call('HGET', running, ARGV[3]) or 0) > 0 then
    redis.call('HINCRBY', running, ARGV[3], -1)
  end
  if ARGV[4] == '1' then
    redis.call('HINCRBY', spent, 'tokens', ARGV[7])
    redis.call('HINCRBY', spent, 'micros', ARGV[8])
    redis.call('EXPIRE', spent, ARGV[5])
  end
end
"""

# --- selection -------------------------------------------------------------------------------------------------------

# Takes the instance that a conversation or a session would go to while it carries no more than its share; else the
# less loaded of two at random (of a few: the least loaded). Where neither takes requests, a larger sample is looked
# at, then (cursor) the model's set is walked in pages: the cost never grows with the fleet. Loads are compared by the
# instances' weights. If all are ejected, one is tried all the same (desperate): better one that refused a moment ago
# than none.
#
# KEYS: the model's set, EPOCH, MODELS; for a key with limits also its LIMITS, RUNNING, SPENT.
# ARGV: model id, stale_after (seconds), prefix of the hashes' names, cursor ('' = sample), bound (load of a preferred
# instance of weight 1), number of preferred ids, number of ids to leave out, '1' if one that is ejected is better than
# none, these ids; then, for a key with limits, what `admit` takes.
# Answers {'taken', id, ip, port, api_key, '1' if it has failed lately, what `admit` answers behind its first}
# or {'refused', what `admit` answers} or {why: 'walk' | 'none' | 'full' | 'unknown' | 'lost', next cursor, of a walk: 1
# if full ones were met}.
TAKE = Script.of(
    _LIMITS,
    f"""
local PROBE_FOR = {_PROBE_FOR * 1e6:.0f}
""",
    """
local FEW, SAMPLE, PAGE = 8, 32, 128
local stale_after, prefix, cursor = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local bound, preferred, left_out = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local desperate = ARGV[8] == '1'
local time = redis.call('TIME')
local now, random = time[1] * 1000000 + time[2], tonumber(time[2])
local excluded = {}
for i = 9 + preferred, 8 + preferred + left_out do
  excluded[ARGV[i]] = true
end

local any_full = false
local ejected, ejected_load

-- An instance that takes requests, and its load; nil if it does not.
local function look(id)
  if excluded[id] then
    return nil
  end
  local seen = redis.call('HMGET', prefix .. id, 'status', 'ready', 'last_heartbeat', 'current_load', 'capacity',
    'weight', 'ejected_until', 'failures', 'ejections', 'ip', 'port', 'api_key')
  local heartbeat = tonumber(seen[3] or nil)
  if seen[1] ~= 'READY' or seen[2] ~= '1' or not heartbeat or now / 1000000 - heartbeat > stale_after then
    return nil
  end
  local load, capacity = tonumber(seen[4] or 0), tonumber(seen[5] or 0)
  if capacity > 0 and load >= capacity then
    any_full = true
    return nil
  end
  local found = {id = id, load = (load + 1) / (tonumber(seen[6]) or 1), seen = seen}
  if seen[7] and tonumber(seen[7]) > now then
    if not ejected or found.load < ejected_load then
      ejected, ejected_load = found, found.load
    end
    return nil
  end
  return found
end

local function least_loaded(ids)
  local best
  for i = 1, #ids do
    local found = look(ids[(i + random) % #ids + 1])  -- among equals, not always the first
    if found and (not best or found.load < best.load) then
      best = found
    end
  end
  return best
end

local function take(found, admitted)
  local hash, seen = prefix .. found.id, found.seen
  local ailing = (seen[8] and seen[8] ~= '0') or seen[9]
  redis.call('HINCRBY', hash, 'current_load', 1)
  if seen[9] then
    redis.call('HSET', hash, 'probing', '1', 'ejected_until', string.format('%.0f', now + PROBE_FOR))
  end
  return {'taken', found.id, seen[10], seen[11], seen[12], ailing and '1' or '0', unpack(admitted, 2)}
end

if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then
  return {redis.call('EXISTS', KEYS[2]) == 1 and 'unknown' or 'lost', '0'}
end

local best
local next_cursor, count = '0', redis.call('SCARD', KEYS[1])
for i = 9, 8 + preferred do
  best = look(ARGV[i])
  if best and best.load <= bound then
    break
  end
  best = nil
end
if best then
  -- as the conversation or the session wants it
elseif cursor ~= '' then
  local page = redis.call('SSCAN', KEYS[1], cursor, 'COUNT', PAGE)
  next_cursor = page[1]
  best = least_loaded(page[2])
elseif count <= FEW then
  best = least_loaded(redis.call('SMEMBERS', KEYS[1]))
else
  best = least_loaded(redis.call('SRANDMEMBER', KEYS[1], 2)) or least_loaded(redis.call('SRANDMEMBER', KEYS[1], SAMPLE))
  if not best and count > SAMPLE and (any_full or not ejected) then
    return {'walk', '0', any_full and 1 or 0}
  end
end
best = best or (desperate and not any_full and ejected)
if best then
  local admitted = {''}
  if KEYS[4] then
    admitted = admit(9 + preferred + left_out, now)
    if admitted[1] ~= '' then
      return {'refused', unpack(admitted)}
    end
  end
  return take(best, admitted)
end
if next_cursor ~= '0' then
  return {'walk', next_cursor, any_full and 1 or 0}
end
if any_full then
  return {'full', '0'}
end
return {redis.call('EXISTS', KEYS[2]) == 1 and 'none' or 'lost', '0'}
""",
)

_RELEASE = """
local function release(instance)
  if tonumber(redis.call('HGET', instance, 'current_load') or 0) > 0 then
    redis.call('HINCRBY', instance, 'current_load', -1)
  end
end
"""

# KEYS: the instance's hash.
RELEASE = Script.of(_RELEASE, "release(KEYS[1])")

# The request of a key with limits was refused after all. KEYS: LIMITS, RUNNING, SPENT. ARGV: what `settle` takes.
SETTLE = Script.of(_SETTLE, "settle(KEYS[1], KEYS[2], KEYS[3])")

# Both at once. KEYS: the instance's hash, LIMITS, RUNNING, SPENT. ARGV: what `settle` takes.
RELEASE_AND_SETTLE = Script.of(_RELEASE, _SETTLE, "release(KEYS[1])\nsettle(KEYS[2], KEYS[3], KEYS[4])")

FOR_ROUTER = (TAKE, RELEASE, SETTLE, RELEASE_AND_SETTLE, FAILED)
