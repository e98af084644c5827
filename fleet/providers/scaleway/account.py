"""A project at Scaleway: the SDK's API classes over one session, and the credentials that open it."""

from __future__ import annotations

from dataclasses import dataclass

import requests
from scaleway.block.v1 import BlockV1API
from scaleway.iam.v1alpha1 import IamV1Alpha1API
from scaleway.instance.v1.custom_api import InstanceUtilsV1API
from scaleway.marketplace.v2 import MarketplaceV2API
from scaleway_core.client import Client
from scaleway_core.validations.string_validation import is_access_key, is_project_id, is_secret_key

from fleet.providers.base import AuthError
from fleet.providers.scaleway.exchange import Exchange

TIMEOUT = (5.0, 30.0)  # seconds: to connect, between two reads


class InstanceAPI(Exchange, InstanceUtilsV1API):
    """Servers, addresses, security groups."""


class BlockAPI(Exchange, BlockV1API):
    """Block volumes (SBS)."""


class MarketplaceAPI(Exchange, MarketplaceV2API):
    """Images by their label."""


class IamAPI(Exchange, IamV1Alpha1API):
    """SSH keys, and who the API key is."""


@dataclass(frozen=True, slots=True)
class Account:
    access_key: str
    project_id: str
    instance: InstanceAPI
    block: BlockAPI
    marketplace: MarketplaceAPI
    iam: IamAPI


def open_account(
    *,
    access_key: str,
    secret_key: str,
    project_id: str,
    api_url: str,
    timeout: tuple[float, float],
    session: requests.Session,
) -> Account:
    _check(access_key, secret_key, project_id)
    client = Client(access_key=access_key, secret_key=secret_key, default_project_id=project_id, api_url=api_url)
    return Account(
        access_key=access_key,
        project_id=project_id,
        instance=InstanceAPI(client, session=session, timeout=timeout),
        block=BlockAPI(client, session=session, timeout=timeout),
        marketplace=MarketplaceAPI(client, session=session, timeout=timeout),
        iam=IamAPI(client, session=session, timeout=timeout),
    )


def _check(access_key: str, secret_key: str, project_id: str) -> None:
    # Not the SDK's own `validate`: its message repeats the secret.
    if not is_access_key(access_key):
        raise AuthError("the Scaleway access key is not one: SCW and 17 capital letters or digits are expected")
    if not is_secret_key(secret_key):
        raise AuthError("the Scaleway secret key is not one: a UUID is expected")
    if not is_project_id(project_id):
        raise AuthError("the Scaleway project id is not one: a UUID is expected")
