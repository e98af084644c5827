"""Does the arithmetic agree with what is known of real models on real machines?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catalog import fit
from catalog.fit import Fit, InvalidRequest, ModelNeed, check_load, measure, meets_floor, tensor_parallel_size
from tests.catalog.needs import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B, MIXTRAL, PHI_4

MODELS = st.sampled_from([LLAMA_8B, LLAMA_70B, MIXTRAL, PHI_4, DEEPSEEK_V3])
GPUS = st.sampled_from([1, 2, 4, 8])
VRAM = st.sampled_from([16, 24, 48, 80, 141, 288])
TOKENS = st.integers(1, 131072)
SEQUENCES = st.integers(1, fit.MAX_CONCURRENCY)

in_own_time = settings(deadline=None)  # a busy machine is no failure


def on(need: ModelNeed, gpus: int, vram: int) -> Fit:
    return measure(need, gpu_count=gpus, vram_per_gpu_gb=vram)


def one_sequence(need: ModelNeed) -> ModelNeed:
    return replace(need, concurrency=1)


# --- known models on known machines -------------------------------------------------------------------------------


def test_mixtral_in_fp16_weighs_93_gb_and_does_not_fit_one_gpu_of_80() -> None:
    assert fit.weights_gb(MIXTRAL) == pytest.approx(93.4, abs=0.05)
    assert not on(MIXTRAL, 1, 80).holds_weights
    assert on(MIXTRAL, 2, 80).fits


def test_70b_in_16_bits_needs_two_gpus_of_80_and_more_for_four_long_sequences() -> None:
    assert not on(one_sequence(LLAMA_70B), 1, 80).fits
    assert on(one_sequence(LLAMA_70B), 2, 80).fits
    assert not on(LLAMA_70B, 2, 80).fits
    assert on(LLAMA_70B, 4, 80).fits


def test_8b_in_16_bits_fits_a_gpu_of_24_by_default_but_not_one_of_16() -> None:
    assert on(LLAMA_8B, 1, 24).fits
    assert not on(LLAMA_8B, 1, 16).holds_weights


def test_deepseek_v3_fits_eight_gpus_of_141_but_not_of_80() -> None:
    assert on(DEEPSEEK_V3, 8, 141).fits
    assert not on(DEEPSEEK_V3, 8, 80).holds_weights


def test_a_token_of_llama_8b_takes_128_kib_of_cache() -> None:
    one_token = replace(LLAMA_8B, context_length=1, concurrency=1)

    assert on(one_token, 1, 24).kv_cache_gb * fit.GB == pytest.approx(128 * 1024)


def test_a_token_of_deepseek_v3_takes_one_latent_vector_a_layer() -> None:
    one_token = replace(DEEPSEEK_V3, context_length=1, concurrency=1)

    assert on(one_token, 1, 288).kv_cache_gb * fit.GB == pytest.approx(61 * (512 + 64) * 2)


def test_an_unknown_cache_counts_as_none() -> None:
    encoder = replace(LLAMA_8B, kv_heads=None, layers=None, head_dim=None)

    measured = on(encoder, 1, 24)

    assert (measured.kv_cache_gb, measured.sequences, measured.fits) == (0, None, True)


# --- tensor parallelism -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "gpus", "size"),
    [
        (LLAMA_8B, 8, 8),
        (LLAMA_8B, 3, 2),  # 32 heads don't split over 3
        (replace(LLAMA_8B, attention_heads=28, kv_heads=4), 8, 4),  # Qwen2.5-7B
        (
            replace(LLAMA_8B, attention_heads=14, kv_heads=2),
            8,
            2,
        ),  # Qwen2.5-0.5B: 7 divides 14, but not with 2 KV heads
        (PHI_4, 4, 2),  # 10 KV heads don't split over 4
        (DEEPSEEK_V3, 8, 8),  # its one KV head is copied
        (replace(LLAMA_8B, attention_heads=None, kv_heads=None), 6, 6),  # nothing known, nothing forbidden
    ],
)
def test_tensor_parallelism_takes_the_largest_size_that_the_heads_allow(need: ModelNeed, gpus: int, size: int) -> None:
    assert tensor_parallel_size(need, gpu_count=gpus) == size


@in_own_time
@given(MODELS, st.integers(1, 16))
def test_a_tensor_parallel_size_divides_the_attention_heads(need: ModelNeed, gpus: int) -> None:
    size = tensor_parallel_size(need, gpu_count=gpus)

    assert 1 <= size <= gpus
    assert need.attention_heads is not None
    assert need.attention_heads % size == 0


def test_gpus_that_the_model_can_not_use_do_not_count() -> None:
    assert on(PHI_4, 4, 24).vram_available_gb == on(PHI_4, 2, 24).vram_available_gb


def test_beyond_its_kv_heads_a_model_copies_its_cache() -> None:
    few_heads = replace(LLAMA_8B, kv_heads=2)

    caches = [on(few_heads, gpus, 80).kv_cache_gb / gpus for gpus in (1, 2, 4, 8)]

    assert caches[1] == pytest.approx(caches[0] / 2)
    assert caches[2] == caches[3] == pytest.approx(caches[1])


# --- properties ---------------------------------------------------------------------------------------------------


@in_own_time
@given(MODELS, GPUS, VRAM, st.tuples(TOKENS, TOKENS), SEQUENCES)
def test_a_longer_context_never_needs_less(
    need: ModelNeed, gpus: int, vram: int, contexts: tuple[int, int], sequences: int
) -> None:
    less, more = (
        on(replace(need, context_length=context, concurrency=sequences), gpus, vram) for context in sorted(contexts)
    )

    assert less.vram_needed_gb <= more.vram_needed_gb
    assert less.fits or not more.fits


@in_own_time
@given(MODELS, GPUS, VRAM, VRAM)
def test_more_memory_never_fits_worse(need: ModelNeed, gpus: int, one: int, other: int) -> None:
    small, large = sorted((one, other))

    assert on(need, gpus, large).fits or not on(need, gpus, small).fits


@in_own_time
@given(MODELS, GPUS, VRAM, TOKENS, SEQUENCES)
def test_it_fits_exactly_when_the_cache_holds_the_sequences(
    need: ModelNeed, gpus: int, vram: int, tokens: int, sequences: int
) -> None:
    measured = on(replace(need, context_length=tokens, concurrency=sequences), gpus, vram)

    assert measured.sequences is not None
    assume(abs(measured.vram_needed_gb - measured.vram_available_gb) > 1e-6)  # floats can't tell closer ones apart
    if measured.holds_weights:
        assert measured.fits == (measured.sequences >= sequences)
    else:
        assert measured.sequences == 0


@in_own_time
@given(MODELS, GPUS, VRAM)
def test_what_fits_never_exceeds_the_memory_that_there_is(need: ModelNeed, gpus: int, vram: int) -> None:
    measured = on(need, gpus, vram)

    assert measured.vram_available_gb < gpus * vram
    assert measured.vram_needed_gb >= measured.weights_gb


def test_the_floor_counts_all_gpus_of_the_machine() -> None:
    need = replace(LLAMA_8B, required_vram_gb=96)

    assert meets_floor(need, gpu_count=4, vram_per_gpu_gb=24)
    assert not meets_floor(need, gpu_count=3, vram_per_gpu_gb=24)


# --- the load -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context_length", "concurrency", "field"),
    [
        (0, 1, "context_length"),
        (8193, 1, "context_length"),
        (-1, 1, "context_length"),
        (8192, 0, "concurrency"),
        (8192, 10**12, "concurrency"),
    ],
)
def test_a_load_that_the_model_can_not_have_is_refused_by_field(
    context_length: int, concurrency: int, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_load(context_length=context_length, concurrency=concurrency, model_context_length=8192)

    assert refused.value.field == field
    assert str({"context_length": context_length, "concurrency": concurrency}[field]) in refused.value.message


def test_a_load_at_the_models_limit_is_fine() -> None:
    check_load(context_length=8192, concurrency=fit.MAX_CONCURRENCY, model_context_length=8192)
