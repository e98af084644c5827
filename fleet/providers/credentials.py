"""What an account at each provider is opened with, as data: for the settings, the admin's form and the checks.

A credential's name is the keyword that the driver's factory takes it by (see `registry`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class Credential:
    name: str
    setting: str  # which gives it to the account of the settings
    label: str
    pattern: str  # of the whole value, or of each of several
    looks_like: str
    is_secret: bool = False  # never shown again
    is_list: bool = False
    is_identity: bool = False  # says whose machines are meant: another one would not find those that run
    is_ambient: bool = False  # the settings may leave it out: the SDK finds it where it looks by itself

    def problem(self, value: str | Sequence[str]) -> str:
        """What is wrong with it, without repeating it; empty if nothing is."""
        entries = [value] if isinstance(value, str) else value
        if entries and all(re.fullmatch(self.pattern, entry) for entry in entries):
            return ""
        return f"should look like {self.looks_like}"


# A provider without any can have no account beside the one of the settings.
CREDENTIALS: Mapping[str, tuple[Credential, ...]] = {
    "mock": (),
    "scaleway": (
        Credential(
            name="access_key",
            setting="SCW_ACCESS_KEY",
            label="Access key",
            pattern="SCW[A-Z0-9]{17}",
            looks_like="SCW and 17 capital letters or digits",
        ),
        Credential(
            name="secret_key",
            setting="SCW_SECRET_KEY",
            label="Secret key",
            pattern=_UUID,
            looks_like="a UUID in small letters",
            is_secret=True,
        ),
        Credential(
            name="project_id",
            setting="SCW_DEFAULT_PROJECT_ID",
            label="Project id",
            pattern=_UUID,
            looks_like="a UUID in small letters",
            is_identity=True,
        ),
    ),
    "aws": (
        Credential(
            name="access_key_id",
            setting="AWS_ACCESS_KEY_ID",
            label="Access key id",
            pattern="[A-Z0-9]{16,128}",
            looks_like="AKIA and 16 capital letters or digits",
            is_ambient=True,
        ),
        Credential(
            name="secret_access_key",
            setting="AWS_SECRET_ACCESS_KEY",
            label="Secret access key",
            pattern="[A-Za-z0-9/+=]{40}",
            looks_like="40 letters, digits, slashes and plus signs",
            is_secret=True,
            is_ambient=True,
        ),
        Credential(
            name="regions",
            setting="AWS_REGIONS",
            label="Regions",
            pattern="[a-z]{2}(-[a-z]+)+-[0-9]",
            looks_like="eu-west-3,us-east-1",
            is_list=True,
        ),
    ),
}


def settings_that_make_an_account(provider: str) -> str:
    """In words, for whoever has none yet."""
    needed = [one.setting for one in CREDENTIALS.get(provider, ()) if not one.is_ambient]
    return " and ".join(filter(None, (", ".join(needed[:-1]), *needed[-1:])))
