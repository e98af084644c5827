"""An LLM of the catalogue, and what it needs of a machine."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from catalog import model_names


class Precision(models.TextChoices):
    """How a weight is stored."""

    FP32 = "fp32", "FP32"
    FP16 = "fp16", "FP16"
    BF16 = "bf16", "BF16"
    FP8 = "fp8", "FP8"
    INT8 = "int8", "INT8"
    INT4 = "int4", "INT4 (AWQ, GPTQ)"


class Routing(models.TextChoices):
    """How the router chooses among the instances of a model."""

    LEAST_LOAD = "least_load", "Least load: the less loaded of two at random"
    PREFIX = "prefix", "Prefix: the one that had the beginning of the conversation, and may still have it cached"


# It becomes an argument of the engine, a part of Redis keys and of URLs.
validate_model_id = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z",
    'A model id is a name or "organisation/name", of letters, digits, ".", "_" and "-".',
)
AT_LEAST_ONE = [MinValueValidator(1)]
_LONGEST_WAIT = 3600


def _price(words: str) -> models.DecimalField[Any, Any]:
    return models.DecimalField(
        max_digits=12, decimal_places=6, null=True, blank=True, validators=[MinValueValidator(0)], help_text=words
    )


class LlmModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255, help_text='For people: "Llama 3.1 8B Instruct"')
    model_id = models.CharField(
        max_length=255,
        unique=True,
        validators=[validate_model_id],
        help_text='The Hugging Face id: "meta-llama/Llama-3.1-8B-Instruct"',
    )
    required_vram_gb = models.IntegerField(
        verbose_name="required VRAM (GB)",
        validators=[MinValueValidator(0)],
        help_text="The floor: no machine with less in all is offered",
    )
    is_active = models.BooleanField(default=True, db_default=True, help_text="Whether it may be deployed and called")
    context_length = models.IntegerField(validators=AT_LEAST_ONE, help_text="Tokens, prompt and answer together")
    updated_at = models.DateTimeField(auto_now=True)

    parameters = models.BigIntegerField(
        validators=AT_LEAST_ONE, help_text="All weights, the inactive experts of a mixture too"
    )
    precision = models.CharField(max_length=10, choices=Precision.choices, default=Precision.BF16)

    # The KV cache's shape, from the model's config.json. Null: unknown, only weights and the floor are checked.
    layers = models.IntegerField(null=True, blank=True, validators=AT_LEAST_ONE, help_text="num_hidden_layers")
    attention_heads = models.IntegerField(
        null=True,
        blank=True,
        validators=AT_LEAST_ONE,
        help_text="num_attention_heads; a tensor-parallel size must divide it",
    )
    kv_heads = models.IntegerField(null=True, blank=True, validators=AT_LEAST_ONE, help_text="num_key_value_heads")
    head_dim = models.IntegerField(
        null=True,
        blank=True,
        validators=AT_LEAST_ONE,
        help_text="head_dim. For latent attention (MLA): one KV head of (kv_lora_rank + qk_rope_head_dim) / 2",
    )

    # How it is called. The routers follow at the next rebuild of their index.
    aliases = ArrayField(
        models.CharField(max_length=255, validators=[validate_model_id]),
        default=list,
        blank=True,
        size=20,
        help_text='Other names that callers may use ("llama-3-8b"); each means one model only',
    )
    fallbacks = ArrayField(
        models.CharField(max_length=255),
        default=list,
        blank=True,
        size=5,
        help_text="Ids of the models that answer, in this order, when none of its own instances can",
    )
    routing = models.CharField(
        max_length=20, choices=Routing.choices, default=Routing.LEAST_LOAD, db_default=Routing.LEAST_LOAD
    )
    max_concurrency = models.IntegerField(
        null=True,
        blank=True,
        validators=[*AT_LEAST_ONE, MaxValueValidator(1_000_000)],
        help_text="Requests that one instance may have at once; empty: no cap, its engine queues",
    )
    first_byte_timeout = models.IntegerField(
        null=True,
        blank=True,
        validators=[*AT_LEAST_ONE, MaxValueValidator(_LONGEST_WAIT)],
        help_text="Seconds until an answer has to begin; empty: the router's setting",
    )
    input_price_per_million = _price("Of a million tokens of prompts, for budgets and usage; empty: none is counted")
    output_price_per_million = _price("Of a million tokens of answers")

    class Meta:
        db_table = "models"
        ordering = ["name"]
        verbose_name = "model"
        constraints = [
            models.CheckConstraint(condition=models.Q(required_vram_gb__gte=0), name="models_required_vram"),
            models.CheckConstraint(condition=models.Q(context_length__gte=1), name="models_context_length"),
            models.CheckConstraint(condition=models.Q(parameters__gte=1), name="models_parameters"),
            *(
                models.CheckConstraint(condition=models.Q(**{f"{field}__gte": 1}), name=f"models_{field}")
                for field in (
                    *("layers", "attention_heads", "kv_heads", "head_dim"),
                    *("max_concurrency", "first_byte_timeout"),
                )
            ),
            *(
                models.CheckConstraint(condition=models.Q(**{f"{field}__gte": 0}), name=f"models_{field}")
                for field in ("input_price_per_million", "output_price_per_million")
            ),
            models.CheckConstraint(condition=models.Q(routing__in=Routing.values), name="models_routing"),
            models.CheckConstraint(condition=models.Q(precision__in=Precision.values), name="models_precision"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        model_names.check(self)
