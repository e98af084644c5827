"""Who may do what: the roles, as data. Admin, API and CLI all ask `may`."""

from __future__ import annotations

from django.db import models


class Role(models.TextChoices):
    ADMIN = "admin", "Admin"
    OPERATOR = "operator", "Operator"
    VIEWER = "viewer", "Viewer"


# Permissions are Django's "app.codename". An admin may do everything; everybody may view what is not an admin's alone.
_ACCESS_CONTROL = "accounts"
_OPERATOR_APPS = frozenset({"catalog", "fleet", "routing"})
# What only an admin may do inside those apps: change what a provider is, see which accounts pay, and whose usage it is
# that can't be counted.
_ADMIN_ONLY = frozenset(
    {f"catalog.{verb}_provider" for verb in ("add", "change", "delete")}
    | {f"fleet.{verb}_provideraccount" for verb in ("view", "add", "change", "delete")}
    | {f"routing.{verb}_rejectedusage" for verb in ("view", "add", "change", "delete")}
)


def may(role: str, permission: str) -> bool:
    """Whether `role` grants `permission` ("app_label.codename"). An unknown role grants nothing."""
    app_label, _, codename = permission.partition(".")
    match role:
        case Role.ADMIN:
            return True
        case _ if permission in _ADMIN_ONLY:
            return False
        case Role.OPERATOR:
            return app_label in _OPERATOR_APPS
        case Role.VIEWER:
            return app_label != _ACCESS_CONTROL and codename.startswith("view_")
        case _:
            return False
