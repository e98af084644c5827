"""What a database needs before the processes start: tables, catalogue, an admin and a key to try it with."""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path

from django.core.management import call_command
from django.utils import timezone

from catalog.models import LlmModel, Provider
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey
from routing.models.api_key import Scope, hash_key

ADMIN_EMAIL = "admin@inventiv.local"
_KEY_NAME = "make run"


def migrate() -> None:
    call_command("migrate", verbosity=0, interactive=False)


def collect_static() -> None:
    """The admin's and Swagger's files, where whitenoise finds them."""
    call_command("collectstatic", verbosity=0, interactive=False)


def seed() -> str:
    """Fill the catalogue; returns what is in it, in words."""
    call_command("seed_catalog", stdout=io.StringIO())
    return f"{Provider.objects.count()} providers, {LlmModel.objects.count()} models"


def make_admin() -> str | None:
    """The password of a newly made admin, to be shown once; None if there is an admin already."""
    if User.objects.filter(role=Role.ADMIN).exists():
        return None
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser(ADMIN_EMAIL, password)
    return password


def make_key(home: Path) -> str:
    """An API key for the examples: kept in `home`, for its owner's eyes only, and used again by the next run."""
    path = home / "secrets" / "api_key"
    key = path.read_text().strip() if path.exists() else ""
    if key and ApiKey.objects.usable(timezone.now()).filter(sha256=hash_key(key)).exists():
        return key
    owner = User.objects.filter(role=Role.ADMIN, is_active=True).earliest("created_at")
    _, key = ApiKey.issue(owner_id=owner.pk, name=_KEY_NAME, scopes=list(Scope.values))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
    return key
