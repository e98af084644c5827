"""A key with which a program calls the control plane or, with the scope `inference`, the router."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime
from decimal import Decimal
from typing import TypedDict, Unpack

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

PREFIX = "inv_"
_SHOWN = 12  # characters of a key that may be shown again: enough to tell two keys apart, useless to guess the rest


class Scope(models.TextChoices):
    INFERENCE = "inference", "Inference: call models through the router"
    READ = "read", "Read: see what the owner may see"
    WRITE = "write", "Write: do what the owner may do"


def hash_key(key: str) -> str:
    """SHA-256 in hex. A key has 256 random bits, so a plain fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


class Limits(TypedDict, total=False):
    """What a key is kept to at the router. None, or no models: no limit."""

    allowed_models: list[str]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    monthly_token_budget: int | None
    monthly_budget: Decimal | None


LIMITS = tuple(Limits.__annotations__)
_NUMBERS = LIMITS[1:]

# Redis' scripts count in doubles, which are exact up to 9e15; money is counted in millionths.
_MOST_TOKENS = 10**15
_MOST_A_MINUTE = 10**9
_SMALLEST_BUDGET = Decimal("0.01")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, now: datetime) -> ApiKeyQuerySet:
        not_expired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now)
        return self.filter(not_expired, revoked_at__isnull=True, owner__is_active=True)

    def for_the_router(self, now: datetime) -> ApiKeyQuerySet:
        """Those with which models may be called."""
        return self.usable(now).filter(scopes__contains=[Scope.INFERENCE])


class ApiKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=_SHOWN, editable=False)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=20, choices=Scope.choices))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(
        null=True, editable=False, help_text="When it last called a model, to the minute; empty: never"
    )

    allowed_models = ArrayField(
        models.CharField(max_length=255),
        default=list,
        blank=True,
        size=100,
        help_text="The ids of the models that it may call, not their aliases; empty: all",
    )
    requests_per_minute = models.IntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(_MOST_A_MINUTE)]
    )
    tokens_per_minute = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(_MOST_A_MINUTE)],
        help_text="Of prompts and answers together",
    )
    concurrency = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
        help_text="Requests that it may have running at once",
    )
    monthly_token_budget = models.BigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(_MOST_TOKENS)],
        help_text="Tokens of prompts and answers in a calendar month (UTC)",
    )
    monthly_budget = models.DecimalField(
        max_digits=11,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(_SMALLEST_BUDGET)],
        help_text="Money in a calendar month (UTC), in the currency of the models' prices",
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        db_table = "api_keys"
        ordering = ["-created_at"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(condition=models.Q(**{f"{limit}__gt": 0}), name=f"api_keys_{limit}")
            for limit in _NUMBERS
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_limited(self) -> bool:
        return bool(self.allowed_models) or any(getattr(self, limit) is not None for limit in _NUMBERS)

    @property
    def has_budget(self) -> bool:
        return self.monthly_token_budget is not None or self.monthly_budget is not None

    @classmethod
    def issue(
        cls,
        *,
        owner_id: uuid.UUID,
        name: str,
        scopes: list[str],
        expires_at: datetime | None = None,
        **limits: Unpack[Limits],
    ) -> tuple[ApiKey, str]:
        """Make a key. Returns the row and the key itself, which is not kept: show it once."""
        key = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            owner_id=owner_id,
            name=name,
            prefix=key[:_SHOWN],
            sha256=hash_key(key),
            scopes=scopes,
            expires_at=expires_at,
            **limits,
        )
        return row, key
