"""SSH keys of the project: Scaleway puts every one of them on every server."""

from __future__ import annotations

from fleet.providers.base import AmbiguousOutcome, SshKeySpec
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import text

_PATH = "/iam/v1alpha1/ssh-keys"


def ensure(account: Account, key: SshKeySpec) -> str:
    """The id of the key with this material, registered if it is not there. Its comment is not part of it."""
    keys = listing.take(
        account.iam, _PATH, key="ssh_keys", size="page_size", params={"project_id": account.project_id}
    ).whole()
    for id_, registered in keys.items():
        if _material(text(registered.get("public_key"))) == _material(key.public_key):
            return id_
    body = {"name": key.name, "public_key": key.public_key, "project_id": account.project_id}
    id_ = text(account.iam.ask("POST", _PATH, body=body).payload.get("id"))
    if not id_:
        raise AmbiguousOutcome("the answer to a new ssh key has no id in it")
    return id_


def _material(public_key: str) -> list[str]:
    return public_key.split()[:2]
