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
LIMITS = "apikey:{key_id}:limits"  # Hash: the key's token buckets: `requests`, `tokens` (what is left), `at` (micros)
RUNNING = "apikey:{key_id}:running"  # Hash: router id -> requests of the key that run there; counts while ROUTER lives
SPENT = "apikey:{key_id}:spent:{month}"  # Hash: `tokens`, `micros` spent in a month ("2026-11", UTC) against the budget
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
LIMITS_TTL = 120  # any bucket is full again by then
RUNNING_TTL = 24 * 3600
SPENT_TTL = 40 * 24 * 3600
CALLS_TTL = 600  # any bucket is full again by then

REFUSALS_KEPT = 256  # fields: whoever is refused from many addresses must not fill Redis


def model_instances(model_id: str) -> str:
    return MODEL_INSTANCES.format(model_id=model_id)


def instance(instance_id: str) -> str:
    return INSTANCE.format(instance_id=instance_id)


def api_key(sha256: str) -> str:
    return API_KEY.format(sha256=sha256)


def limits(key_id: str) -> str:
    return LIMITS.format(key_id=key_id)


def running(key_id: str) -> str:
    return RUNNING.format(key_id=key_id)


def spent(key_id: str, month: str) -> str:
    return SPENT.format(key_id=key_id, month=month)


def router(router_id: str) -> str:
    return ROUTER.format(router_id=router_id)


def provider_calls(provider: str, account: str) -> str:
    return CALLS.format(provider=provider, account=account)


# For scans: what an instance's, a key's or a model set's name begins with.
INSTANCE_PREFIX = INSTANCE.partition("{")[0]
API_KEY_PREFIX = API_KEY.partition("{")[0]
MODEL_INSTANCES_PREFIX, _, MODEL_INSTANCES_SUFFIX = MODEL_INSTANCES.partition("{model_id}")


def model_of(model_instances_key: str) -> str | None:
    """The model whose set this is; None if the name is not that of a set of instances."""
    if not model_instances_key.startswith(MODEL_INSTANCES_PREFIX):
        return None
    if not model_instances_key.endswith(MODEL_INSTANCES_SUFFIX):
        return None
    return model_instances_key[len(MODEL_INSTANCES_PREFIX) : -len(MODEL_INSTANCES_SUFFIX)]
