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

# Lifetimes, seconds. An instance's hash must outlive a long absence of the control plane: routing goes on without it.
INSTANCE_TTL = 24 * 3600
API_KEY_TTL = 24 * 3600
ROUTER_TTL = 15


def model_instances(model_id: str) -> str:
    return MODEL_INSTANCES.format(model_id=model_id)


def instance(instance_id: str) -> str:
    return INSTANCE.format(instance_id=instance_id)


def api_key(sha256: str) -> str:
    return API_KEY.format(sha256=sha256)


def router(router_id: str) -> str:
    return ROUTER.format(router_id=router_id)
