"""Models, and what they fit on."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from catalog import fit, offers, placement
from catalog.admin import columns
from catalog.admin.base import CatalogAdmin
from catalog.admin.plans import plan_table
from catalog.models import LlmModel
from catalog.placement import Limits


@admin.register(LlmModel)
class LlmModelAdmin(CatalogAdmin):
    list_display = (
        "name",
        "model_id",
        "size",
        "precision",
        "weights",
        "required_vram_gb",
        "context_length",
        "is_active",
        "updated_at",
    )
    list_filter = ("is_active", "precision")
    search_fields = ("name", "model_id")
    actions = ("activate", "deactivate")
    readonly_fields = ("weights", "placements", "updated_at")
    fieldsets = (
        (None, {"fields": ("name", "model_id", "is_active", "updated_at")}),
        ("What it needs", {"fields": ("parameters", "precision", "weights", "required_vram_gb", "context_length")}),
        (
            "The shape of its KV cache",
            {
                "fields": ("layers", "attention_heads", "kv_heads", "head_dim"),
                "description": "From the model's config.json. Empty: unknown, the cache is not counted.",
            },
        ),
        (
            "How it is called",
            {
                "fields": (
                    "aliases",
                    "fallbacks",
                    "routing",
                    ("max_concurrency", "first_byte_timeout"),
                    ("input_price_per_million", "output_price_per_million"),
                ),
                "description": "A comma between two names. The routers follow at the next rebuild of their index.",
            },
        ),
        ("Where it fits", {"fields": ("placements",)}),
    )

    @admin.display(description="parameters", ordering="parameters")
    def size(self, model: LlmModel) -> str:
        return f"{model.parameters / 1e9:.1f} B"

    @admin.display(description="weights (GB)")
    def weights(self, model: LlmModel) -> str:
        # The page of a model that is yet to be added has no numbers.
        return columns.NOTHING if model._state.adding else f"{fit.weights_gb(offers.need(model)):.1f}"

    @admin.display(description="offers, by price")
    def placements(self, model: LlmModel) -> str:
        if model._state.adding:
            return columns.NOTHING
        need = offers.need(model)
        plan = placement.plan(need, offers.current_offers(), Limits())
        load = f"{need.concurrency} sequences of {need.context_length} tokens at once"
        return plan_table(plan, intro=f"For {load}. A deployment may ask for another load.")

    @admin.action(description="Allow deploying and calling the selected models", permissions=["change"])
    def activate(self, request: HttpRequest, chosen: QuerySet[LlmModel]) -> None:
        self.message_user(request, f"{chosen.update(is_active=True)} made active.")

    @admin.action(description="Forbid deploying and calling the selected models", permissions=["change"])
    def deactivate(self, request: HttpRequest, chosen: QuerySet[LlmModel]) -> None:
        self.message_user(request, f"{chosen.update(is_active=False)} made inactive.")
