"""Amazon EC2, by way of `boto3`.

A machine is an EC2 instance with one gp3 volume and an auto-assigned public address, both of which go with it. AWS
starts what it makes: a server of `ensure_server` is on its way up already, and `start` only finds out whether it got
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.providers.aws.provider import AwsProvider


def build(
    *,
    access_key_id: str = "",
    secret_access_key: str = "",
    regions: Sequence[str] = ("us-east-1",),
    image: str = "",
    subnets: Mapping[str, str] | None = None,
    endpoint_url: str | None = None,
    read_timeout: float = 30,
) -> AwsProvider:
    """The driver of one AWS account in the regions named.

    Without a key, boto3's own chain finds the credentials (environment, profile, instance role). `image` is an AMI id
    or the name of an SSM parameter that holds one; empty: the deep learning AMI of `images`. `subnets` says by zone
    which subnet to rent in; other zones use the account's default one.
    """
    from fleet.providers.aws.clients import Clients
    from fleet.providers.aws.images import DEFAULT_IMAGE
    from fleet.providers.aws.provider import AwsProvider

    clients = Clients(
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        endpoint_url=endpoint_url,
        read_timeout=read_timeout,
    )
    return AwsProvider(clients, regions=tuple(regions), image=image or DEFAULT_IMAGE, subnets=subnets or {})
