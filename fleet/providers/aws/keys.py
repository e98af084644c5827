"""SSH keys: a key pair of the same name in every region, named after the key itself.

The name is a digest of the public key, so that a name that is taken is taken by the same key, and needs no look-up.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from fleet.providers.aws.errors import AlreadyThere, translated
from fleet.providers.base import InvalidSpec, SshKeySpec

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client


def ensure_key(ec2: EC2Client, key: SshKeySpec) -> str:
    name = key_name(key.public_key)
    with suppress(AlreadyThere), translated():
        ec2.import_key_pair(
            KeyName=name,
            PublicKeyMaterial=key.public_key.encode(),
            TagSpecifications=[{"ResourceType": "key-pair", "Tags": [{"Key": "Name", "Value": key.name}]}],
        )
    return name


def key_name(public_key: str) -> str:
    """The same for the same key, whatever its comment says."""
    fields = public_key.split()
    if len(fields) < 2:
        raise InvalidSpec("an SSH public key is its type and its value: ssh-ed25519 AAAA...")
    return f"inventiv-{hashlib.sha256(' '.join(fields[:2]).encode()).hexdigest()[:32]}"
