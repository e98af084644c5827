"""SSH keys."""

from __future__ import annotations

import base64
import hashlib

from django.contrib import admin
from django.utils.safestring import SafeString

from catalog.admin import columns
from catalog.admin.base import CatalogAdmin
from catalog.models import SshKey


@admin.register(SshKey)
class SshKeyAdmin(CatalogAdmin):
    list_display = ("name", "provider_link", "kind", "fingerprint", "registered", "created_at")
    list_filter = ("provider",)
    list_select_related = ("provider",)
    search_fields = ("name", "public_key", "provider__name")
    fields = ("name", "provider", "public_key", "fingerprint", "provider_key_id", "created_at")
    readonly_fields = ("fingerprint", "provider_key_id", "created_at")
    fixed = ("provider", "public_key")

    @admin.display(description="provider", ordering="provider__name")
    def provider_link(self, key: SshKey) -> SafeString:
        return columns.link(key.provider)

    @admin.display(description="kind")
    def kind(self, key: SshKey) -> str:
        return key.public_key.partition(" ")[0]

    @admin.display(description="registered", boolean=True, ordering="provider_key_id")
    def registered(self, key: SshKey) -> bool:
        """At the provider, which happens when the next machine is rented. The machines take it in any case."""
        return bool(key.provider_key_id)

    @admin.display(description="fingerprint")
    def fingerprint(self, key: SshKey) -> str:
        """As `ssh-keygen -l` shows it."""
        _, _, rest = key.public_key.partition(" ")
        try:
            blob = base64.b64decode(rest.partition(" ")[0], validate=True)
        except ValueError:
            return columns.NOTHING  # a row that was written past the forms
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}" if blob else columns.NOTHING
