"""What the index holds of a model's instances, routed or not: for operators, never on a request's way.

Everything is read in pages of bounded cost, so that a report on a large fleet holds nobody up; a walk that ends before
the fleet does says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from routing.discovery import keys
from routing.discovery.directory import IndexLost
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import ServedModel
from routing.discovery.scripts import Script

_MOST_PAGES = 200  # of a model's set
_MOST_SCANS = 200  # of the whole keyspace, for instances that are not in the set

# `ejected_until` and what goes with it: see `taking`.
_FIELDS = (
    *("status", "ready", "last_heartbeat", "current_load", "worker_load", "capacity", "weight", "failures"),
    *("ejections", "ejected_until", "probing", "detail", "interruption", "ip", "port"),
)
_WIDTH = 1 + len(_FIELDS)

_ROWS = f"""
local FIELDS = {{{", ".join(f"'{name}'" for name in _FIELDS)}}}
local rows = {{}}
local function add(id, hash)
  table.insert(rows, id)
  for _, value in ipairs(redis.call('HMGET', hash, unpack(FIELDS))) do
    table.insert(rows, value or '')
  end
end

local function micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
"""

# KEYS: the model's set, EPOCH. ARGV: prefix of the hashes' names, cursor.
# Answers {'whole' | 'lost', now (micros), next cursor, {id, the fields..., id, ...}}.
_MEMBERS = Script.of(
    _ROWS,
    """
local PAGE = 128
local page = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', PAGE)
for _, id in ipairs(page[2]) do
  add(id, ARGV[1] .. id)
end
local state = redis.call('EXISTS', KEYS[2]) == 1 and 'whole' or 'lost'
return {state, string.format('%.0f', micros()), page[1], rows}
""",
)

# KEYS: the model's set, EPOCH. ARGV: prefix of the hashes' names, cursor, model id. Answers the same.
_OTHERS = Script.of(
    _ROWS,
    """
local PAGE = 500
local page = redis.call('SCAN', ARGV[2], 'MATCH', ARGV[1] .. '*', 'COUNT', PAGE)
for _, hash in ipairs(page[2]) do
  local id = string.sub(hash, #ARGV[1] + 1)
  if redis.call('HGET', hash, 'model_id') == ARGV[3] and redis.call('SISMEMBER', KEYS[1], id) == 0 then
    add(id, hash)
  end
end
local state = redis.call('EXISTS', KEYS[2]) == 1 and 'whole' or 'lost'
return {state, string.format('%.0f', micros()), page[1], rows}
""",
)

SCRIPTS = (_MEMBERS, _OTHERS)  # what a `Link` is to load


@dataclass(frozen=True, slots=True)
class Standing:
    """How an instance stands in the index. Text that the index does not have is empty; `status` too, then, if the
    instance's hash is gone and only the model's set still names it."""

    instance_id: str
    is_member: bool  # of the model's set: of those that routers look at
    status: str
    ready: bool  # as its worker says
    silent_for: float | None  # seconds since its last heartbeat; None = there was none
    load: int
    worker_load: int
    capacity: int  # 0 = no limit
    weight: float
    failures: int  # in a row
    ejections: int  # in a row
    ejected_for: float  # seconds that it still is out of routing; 0 = it is not
    is_probed: bool  # one request is on its way to see whether it is well again
    detail: str
    interruption: str
    address: str

    @classmethod
    def from_row(cls, row: Sequence[str], *, is_member: bool, now: float) -> Self:
        """`now`: seconds since the epoch by Redis' clock."""
        instance_id, *values = row
        raw = dict(zip(_FIELDS, values, strict=True))
        heartbeat = raw["last_heartbeat"]
        return cls(
            instance_id=instance_id,
            is_member=is_member,
            status=raw["status"],
            ready=raw["ready"] == "1",
            silent_for=max(0.0, now - float(heartbeat)) if heartbeat else None,
            load=int(raw["current_load"] or 0),
            worker_load=int(raw["worker_load"] or 0),
            capacity=int(raw["capacity"] or 0),
            weight=float(raw["weight"] or 1),
            failures=int(raw["failures"] or 0),
            ejections=int(raw["ejections"] or 0),
            ejected_for=max(0.0, float(raw["ejected_until"] or 0) / 1e6 - now),
            is_probed=raw["probing"] == "1",
            detail=raw["detail"],
            interruption=raw["interruption"],
            address=f"{raw['ip']}:{raw['port']}" if raw["ip"] else "",
        )


@dataclass(frozen=True, slots=True)
class Standings:
    of: tuple[Standing, ...]
    are_all: bool  # False: there are more than were looked at


async def models(link: Link) -> list[ServedModel]:
    """Raises IndexLost."""
    try:
        known = await link.command("HVALS", keys.MODELS)
        if not known and not await link.command("EXISTS", keys.EPOCH):
            raise IndexLost("the index is not rebuilt yet")
    except RedisAway as error:
        raise IndexLost(str(error)) from error
    return [ServedModel.from_json(raw) for raw in known]


async def members(link: Link, model_id: str) -> Standings:
    """The instances that routers look at. Raises IndexLost."""
    return await _walk(link, _MEMBERS, model_id, is_member=True, at_most=_MOST_PAGES)


async def others(link: Link, model_id: str) -> Standings:
    """The model's other instances. Raises IndexLost."""
    return await _walk(link, _OTHERS, model_id, is_member=False, at_most=_MOST_SCANS)


async def _walk(link: Link, script: Script, model_id: str, *, is_member: bool, at_most: int) -> Standings:
    found: dict[str, Standing] = {}  # a walk may meet one twice
    cursor = "0"
    for _ in range(at_most):
        state, micros, cursor, rows = await _page(link, script, model_id, cursor)
        if state != "whole":
            raise IndexLost("the index is not rebuilt yet")
        for row in _batched(rows, _WIDTH):
            found[row[0]] = Standing.from_row(row, is_member=is_member, now=float(micros) / 1e6)
        if cursor == "0":
            break
    return Standings(tuple(found.values()), are_all=cursor == "0")


async def _page(link: Link, script: Script, model_id: str, cursor: str) -> Any:
    touched = [keys.model_instances(model_id), keys.EPOCH]
    try:
        return await link.run(script, touched, keys.INSTANCE_PREFIX, cursor, model_id)
    except RedisAway as error:
        raise IndexLost(str(error)) from error


def _batched(values: Sequence[str], width: int) -> Iterator[tuple[str, ...]]:
    rest = iter(values)
    while row := tuple(islice(rest, width)):
        yield row
