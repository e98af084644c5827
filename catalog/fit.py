"""Whether a model fits a machine: weights, KV cache and the engine's own share of the GPUs' memory.

Pure functions on values. A GB is 10**9 bytes throughout, also where it is a vendor's label: what an engine finds on a
card is that or more (an 80 GB H100 has 85e9 bytes), or at most some 3 % less (T4, L4, L40S, which keep ECC in the same
memory). So a fit computed here errs on the side of the larger machine.

The formulas are those of vLLM, the engine that the workers run:

    weights    parameters x bytes per weight                               (`BYTES_PER_WEIGHT`)
    KV cache   2 x layers x KV heads x head_dim x bytes per element x tokens x sequences
               the 2 is K and V; Pope et al., "Efficiently Scaling Transformer Inference" (2022), section 3.3, and
               `AttentionSpec.page_size_bytes` in vllm/v1/kv_cache_interface.py. It is an upper bound for models whose
               layers partly attend to a window only (Gemma 3, gpt-oss).
    a GPU      gpu_memory_utilization x its memory - what a forward pass, CUDA graphs and NCCL take

    Tensor parallelism divides weights and KV heads by its size. The size must divide the attention heads
    (`ModelConfig.verify_with_parallel_config`), and must divide the KV heads or be a multiple of them: beyond as many
    GPUs as KV heads these are copied, and the cache of a GPU shrinks no further (`ModelConfig.get_num_kv_heads`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

GB = 10**9

# With what quantisation adds: a scale per group of 128 weights, embeddings and norms left at 16 bits. A small model
# with a large vocabulary has more of the latter: give it a floor (`required_vram_gb`).
BYTES_PER_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.03, "int8": 1.03, "int4": 0.56}
BYTES_PER_CACHED_ELEMENT = 2  # kv_cache_dtype "auto" is the 16 bits of the activations

GPU_MEMORY_UTILIZATION = 0.92  # vLLM's default (CacheConfig.gpu_memory_utilization), 0.9 in older releases
# Activations at vLLM's default batch (about 1.2 GB for an 8B model), CUDA graphs, NCCL's buffers.
ENGINE_RESERVE_GB = 1.5

# What is planned for when nobody says more. The engine shares the cache among shorter sequences by itself: four of
# 8192 tokens are also 32 of 1024. It is what an 8B model in 16 bits has room for on the smallest current GPU (24 GB).
DEFAULT_CONTEXT_LENGTH = 8192
DEFAULT_CONCURRENCY = 4
MAX_CONCURRENCY = 4096  # far above what one engine runs at once (vLLM's max_num_seqs: 256 to 1024)


class InvalidRequest(ValueError):
    """What was asked for can't be: `field` names the argument at fault, `message` says why in words."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model and the load that is planned for. None in the KV cache's shape: unknown, and counted as no cache."""

    model_id: str
    parameters: int  # all weights, the inactive experts of a mixture too
    precision: str  # a key of BYTES_PER_WEIGHT
    context_length: int  # tokens that one sequence may have
    concurrency: int  # sequences of that length that the cache must hold at once
    layers: int | None
    attention_heads: int | None
    kv_heads: int | None
    head_dim: int | None
    required_vram_gb: int  # the operator's floor, over all GPUs of the machine


@dataclass(frozen=True, slots=True)
class Fit:
    """A model measured against a machine. GB (10**9 bytes), over the GPUs that the engine spans."""

    tensor_parallel_size: int
    weights_gb: float
    kv_cache_gb: float  # with the copies that tensor parallelism makes
    vram_available_gb: float  # for weights and cache
    sequences: int | None  # of full length, that the cache can hold; None: the cache's shape is unknown

    @property
    def vram_needed_gb(self) -> float:
        return self.weights_gb + self.kv_cache_gb

    @property
    def holds_weights(self) -> bool:
        return self.weights_gb <= self.vram_available_gb

    @property
    def fits(self) -> bool:
        return self.vram_needed_gb <= self.vram_available_gb


def check_load(*, context_length: int, concurrency: int, model_context_length: int) -> None:
    """Raises InvalidRequest for a load that the model can't have."""
    if not 1 <= context_length <= model_context_length:
        raise InvalidRequest(
            "context_length", f"must be between 1 and the model's {model_context_length} tokens, not {context_length}"
        )
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise InvalidRequest("concurrency", f"must be between 1 and {MAX_CONCURRENCY}, not {concurrency}")


def meets_floor(need: ModelNeed, *, gpu_count: int, vram_per_gpu_gb: int) -> bool:
    return gpu_count * vram_per_gpu_gb >= need.required_vram_gb


def measure(need: ModelNeed, *, gpu_count: int, vram_per_gpu_gb: int) -> Fit:
    """The model on a machine with `gpu_count` GPUs of `vram_per_gpu_gb` each; the formulas are in the module's text."""
    size = tensor_parallel_size(need, gpu_count=gpu_count)
    weights = weights_gb(need)
    available = size * usable_gb(vram_per_gpu_gb)
    sequence = size * _kv_heads_per_gpu(need, size) * _kv_bytes_per_head(need) * need.context_length / GB
    return Fit(
        tensor_parallel_size=size,
        weights_gb=weights,
        kv_cache_gb=sequence * need.concurrency,
        vram_available_gb=available,
        sequences=max(0, math.floor((available - weights) / sequence)) if sequence else None,
    )


def tensor_parallel_size(need: ModelNeed, *, gpu_count: int) -> int:
    """The largest size up to `gpu_count` that the model's heads allow. The GPUs beyond it stay idle."""
    return max(size for size in range(1, gpu_count + 1) if _splits(need, size))


def weights_gb(need: ModelNeed) -> float:
    return need.parameters * BYTES_PER_WEIGHT[need.precision] / GB


def usable_gb(vram_per_gpu_gb: int) -> float:
    """What the engine has for weights and cache on one GPU."""
    return max(0.0, vram_per_gpu_gb * GPU_MEMORY_UTILIZATION - ENGINE_RESERVE_GB)


def _splits(need: ModelNeed, size: int) -> bool:
    if need.attention_heads is not None and need.attention_heads % size:
        return False
    kv_heads = need.kv_heads
    return kv_heads is None or kv_heads % size == 0 or size % kv_heads == 0


def _kv_heads_per_gpu(need: ModelNeed, size: int) -> int:
    return max(1, (need.kv_heads or 0) // size)


def _kv_bytes_per_head(need: ModelNeed) -> int:
    """Bytes that one token takes in one KV head of every layer."""
    if need.layers is None or need.kv_heads is None or need.head_dim is None:
        return 0
    return 2 * need.layers * need.head_dim * BYTES_PER_CACHED_ELEMENT
