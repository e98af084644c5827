"""What keys have spent of their budgets, as the control plane has counted it. Never imports Django."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from routing.discovery.scripts import Script


@dataclass(frozen=True, slots=True)
class Spent:
    key_id: str
    month: str  # "2026-11", UTC
    tokens: int
    micros: int


def month_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m}"


# Only ever raises: what the routers have counted is younger than what has come as far as Postgres.
# KEYS: hashes SPENT. ARGV: SPENT_TTL; then per hash its tokens and micros.
RAISE = Script.of(
    """
for i = 1, #KEYS do
  local known = redis.call('HMGET', KEYS[i], 'tokens', 'micros')
  for at, field in ipairs({'tokens', 'micros'}) do
    local counted = ARGV[2 * i - 1 + at]
    if tonumber(counted) > tonumber(known[at] or 0) then
      redis.call('HSET', KEYS[i], field, counted)
    end
  end
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
"""
)
