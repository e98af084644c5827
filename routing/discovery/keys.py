"""Every name in Redis that the control plane and the router share, and how long each may live.

Writer and reader, Python and Lua, take names and TTLs from here and from nowhere else. Never imports Django.
"""

from __future__ import annotations

# Names that our user specified.
MODEL_INSTANCES = "catalog:model:{model_id}:instances"  # Set: instance ids that are ready for this model
INSTANCE = "instance:{instance_id}"  # Hash: see records.Endpoint

# Names of ours.
MODELS = "catalog:models"  # Hash: model_id -> JSON of records.ServedModel; tells an unknown model from an unserved one
EPOCH = "discovery:epoch"  # String: when the index was built (ISO 8601); gone = Redis was flushed, rebuild
API_KEY = "apikey:{sha256}"  # Hash: see records.ClientKey
ROUTER = "router:{router_id}"  # String: the router's start instant (ISO 8601), kept alive by the router
ROUTERS = "routers"  # Set: router ids that have a ROUTER key or had one
WITHDRAWN = "discovery:withdrawn"  # Sorted set: name of a removed key -> when (Redis' TIME); a late write stays out
REBUILDING = "discovery:rebuilding"  # String: token of the rebuild under way; gone = a flush overtook it
REFUSALS = "heartbeat:refusals"  # Hash: see records.Refusal; what the routers have refused and nobody has taken yet
REFUSALS_TAKEN = "heartbeat:refusals:taken"  # Hash: the same, while the control plane writes it down
LIMITS = "limits:{key_id}"  # Hash: the key's token buckets: `requests`, `tokens` (what is left), `at` (micros)
RUNNING = "running:{key_id}"  # Hash: router id -> requests of the key that run there; counts while ROUTER lives
SPENT = "spent:{key_id}:{month}"  # Hash: `tokens`, `micros` spent in a month ("2026-11", UTC) against the budget
USAGE = "usage:batches"  # Stream: field `lines`: records.Usage, a line each; the control plane drains it into Postgres
CALLS = "provider:calls:{provider}:{account}"  # Hash: how much an account may be asked now, see fleet's call_rates

# Lifetimes, seconds. An instance's hash must outlive a long absence of the control plane: routing goes on without it.
INSTANCE_TTL = 24 * 3600
API_KEY_TTL = 24 * 3600
EPOCH_TTL = API_KEY_TTL - 60  # an index that nobody refreshed for a day counts as lost before its keys are
ROUTER_TTL = 15
WITHDRAWN_TTL = 24 * 3600
REBUILDING_TTL = 600
REFUSALS_TTL = 24 * 3600
LIMITS_TTL = 24 * 3600  # tokens that were used beyond the limit are waited for, however many they were
RUNNING_TTL = 24 * 3600
SPENT_TTL = 40 * 24 * 3600
CALLS_TTL = 600  # any bucket is full again by then

REFUSALS_KEPT = 256  # fields: whoever is refused from many addresses must not fill Redis


# What names begin with, and end with: put together without `format`, which the router would feel. Also for scans.
MODEL_INSTANCES_PREFIX, _, MODEL_INSTANCES_SUFFIX = MODEL_INSTANCES.partition("{model_id}")
INSTANCE_PREFIX, API_KEY_PREFIX, ROUTER_PREFIX, LIMITS_PREFIX, RUNNING_PREFIX, _SPENT_PREFIX = (
    name.partition("{")[0] for name in (INSTANCE, API_KEY, ROUTER, LIMITS, RUNNING, SPENT)
)


def model_instances(model_id: str) -> str:
    return MODEL_INSTANCES_PREFIX + model_id + MODEL_INSTANCES_SUFFIX


def instance(instance_id: str) -> str:
    return INSTANCE_PREFIX + instance_id


def api_key(sha256: str) -> str:
    return API_KEY_PREFIX + sha256


def limits(key_id: str) -> str:
    return LIMITS_PREFIX + key_id


def running(key_id: str) -> str:
    return RUNNING_PREFIX + key_id


def spent(key_id: str, month: str) -> str:
    return f"{_SPENT_PREFIX}{key_id}:{month}"


def router(router_id: str) -> str:
    return ROUTER_PREFIX + router_id


def provider_calls(provider: str, account: str) -> str:
    return CALLS.format(provider=provider, account=account)


def model_of(model_instances_key: str) -> str | None:
    """The model whose set this is; None if the name is not that of a set of instances."""
    if not model_instances_key.startswith(MODEL_INSTANCES_PREFIX):
        return None
    if not model_instances_key.endswith(MODEL_INSTANCES_SUFFIX):
        return None
    return model_instances_key[len(MODEL_INSTANCES_PREFIX) : -len(MODEL_INSTANCES_SUFFIX)]
