"""Models as needs, for the tests of fit and placement; shapes from their config.json."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from catalog.fit import ModelNeed
from catalog.placement import Offer

LLAMA_8B = ModelNeed(
    model_id="meta-llama/Llama-3.1-8B-Instruct",
    parameters=8_030_261_248,
    precision="bf16",
    context_length=8192,
    concurrency=4,
    layers=32,
    attention_heads=32,
    kv_heads=8,
    head_dim=128,
    required_vram_gb=0,
)
LLAMA_70B = replace(LLAMA_8B, parameters=70_553_706_496, layers=80, attention_heads=64)
MIXTRAL = replace(LLAMA_8B, parameters=46_702_792_704, precision="fp16")
PHI_4 = replace(LLAMA_8B, parameters=14_659_507_200, layers=40, attention_heads=40, kv_heads=10)
DEEPSEEK_V3 = replace(
    LLAMA_8B, parameters=671_026_419_200, precision="fp8", layers=61, attention_heads=128, kv_heads=1, head_dim=288
)


def offer(name: str = "L4-1", **columns: Any) -> Offer:
    facts: dict[str, Any] = {
        "provider": "scaleway",
        "region": "fr-par",
        "zone": "fr-par-1",
        "instance_type": name,
        "gpu_name": "L4",
        "gpu_count": 1,
        "vram_per_gpu_gb": 24,
        "price_per_hour": Decimal("1"),
        "currency": "EUR",
        "stock": "available",
    }
    return Offer(**{**facts, **columns})
