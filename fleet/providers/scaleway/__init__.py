"""Scaleway GPU Instances, through the SDK `scaleway` 2.12. What the driver knows of this cloud:

A create has no idempotency token. A server carries `inv-attempt=<id>` as a tag, is looked for by it before it is made,
and looked for again right after, so that callers who raced keep the eldest and each removes what it made itself. That
holds as far as listings show what was made. What they did not show yet is settled by whoever asks: no second create
before `listing_lag` has passed. What escapes even that (a caller paused in mid-create) carries our tags, and is the
inventory sweep's. Nothing at Scaleway outlives a server and still names its attempt, so an attempt whose server was
destroyed would get another: `remembers_attempts` is False, and a closed attempt must not be asked for again.

A server is made stopped: its disk bills at once, its GPU from power-on. Its root is a block volume (SBS) that outlives
it, is untagged at birth and known to the Block API alone; scratch goes with the server; so does its dynamic address.
A flexible address is never rented here, but one that somebody attached is named in the handle.

`terminate` ends a server that runs or is stopped in place, DELETE one that is stopped; while it starts or stops, both
are refused. A stopped server bills its volumes, one that is stopped in place all of it.

Errors are told by the `type` in their body; statuses mislead (a quota is a 403, a stockout a 412, too many calls a 429
with no body at all). Only a 404 of type `not_found` means absent.

Every key of the project is put on every server: `ServerSpec.ssh_key_ids` can't choose among them. Nothing is rented as
spot. Requests are the SDK's where their answer is empty; where it is read, it is read as JSON, since the SDK's
unmarshalling raises on a null in a list and drops fields that it does not know.
"""

from __future__ import annotations

import requests

from fleet.providers.scaleway.account import TIMEOUT, open_account
from fleet.providers.scaleway.provider import ScalewayProvider

API_URL = "https://api.scaleway.com"
IMAGE = "ubuntu_noble_gpu_os_13_nvidia"  # driver 580, CUDA 13: what vLLM 0.33 wants


def build(
    *,
    access_key: str,
    secret_key: str,
    project_id: str,
    api_url: str = API_URL,
    image: str = "",
    timeout: tuple[float, float] = TIMEOUT,
    session: requests.Session | None = None,
) -> ScalewayProvider:
    """The driver of one project. Raises AuthError for credentials that can't be any; asks the cloud nothing.

    `image` is a label of the marketplace or the id of an image; `timeout` in seconds, to connect and between two reads.
    """
    account = open_account(
        access_key=access_key,
        secret_key=secret_key,
        project_id=project_id,
        api_url=api_url.rstrip("/"),
        timeout=timeout,
        session=session or requests.Session(),
    )
    return ScalewayProvider(account, image=image or IMAGE)
