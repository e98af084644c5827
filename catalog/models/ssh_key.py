"""A public key that is put on the machines of a provider."""

from __future__ import annotations

import uuid

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from catalog.models.provider import Provider

_ACCEPTED = (ed25519.Ed25519PublicKey, rsa.RSAPublicKey, ec.EllipticCurvePublicKey)
_SHORTEST_RSA = 2048


def validate_public_key(value: str) -> None:
    """One line of an OpenSSH public key that every provider takes: ed25519, RSA or ECDSA."""
    if "PRIVATE KEY" in value:
        raise ValidationError("This is a private key. Consider it compromised, and paste the .pub file's line instead.")
    if len(value.split("\n")) > 1 or not value.isprintable():
        raise ValidationError("A public key is one line of printable text, as in id_ed25519.pub.")
    try:
        key = load_ssh_public_key(value.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValidationError('This is no public key. It starts with "ssh-ed25519", "ssh-rsa" or "ecdsa-".') from None
    if not isinstance(key, _ACCEPTED):
        raise ValidationError("Use an ed25519, RSA or ECDSA key.")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
        raise ValidationError(f"An RSA key needs {_SHORTEST_RSA} bits or more.")


class SshKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=50)
    public_key = models.TextField(validators=[validate_public_key], help_text="One line, as in id_ed25519.pub")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="ssh_keys")
    provider_key_id = models.CharField(max_length=255, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "ssh_keys"
        ordering = ["name"]
        verbose_name = "SSH key"

    def __str__(self) -> str:
        return self.name
