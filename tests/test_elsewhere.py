"""Back ends that are not here: every format lowers for them, with no operation that is theirs to round.

Nothing runs on a GPU or TPU here. What can be shown without one: XLA takes each operation for CUDA and TPU; where the
canary would find division, square roots, binary16 or binary64 wrong, none is left in what it takes; and no product, on
any back end, meets an addition unsealed (unsealed.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.exact import arithmetic, bit_patterns, clean_thread
from hifi_ref.formats import FORMATS, Format, hard_inputs
from hifi_ref.lanes import canary, jax_lane, numpy_lane
from hifi_ref.lanes.jax_lane import encoding, watched
from tests import unsealed
from tests.traces import BLOCKS, operations
from tools import on_a_card

PLATFORMS = ("cuda", "tpu")
# Operations whose rounding is a back end's own; those of integers are exact.
INEXACT = re.compile(r"stablehlo\.(divide|sqrt|rsqrt|cbrt|power|dot_general)\b.*\b(f16|bf16|f32|f64)>")
# Importance matters to these only
WEIGHED = {f.name for f in FORMATS.values() if f.row_scoped or f.block_size == 256 or f.requires_weights}
CASES = [
    pytest.param(f, work, id=f"{f.name} {work}")
    for f in FORMATS.values()
    for work in operations(f)
    if work != "encode with importance" or f.name in WEIGHED | {"IQ4_NL"}
]


@pytest.fixture
def no_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """jax lowers a callback for a back end that is here only: zeros stand for what NumPy would answer."""
    monkeypatch.setattr(clean_thread, "call", lambda work, shape, dtype, *operands: jax.numpy.zeros(shape, dtype))


@pytest.mark.parametrize("f, operation", CASES)
def test_lowers_and_leaves_no_rounding_to_the_back_end(f: Format, operation: str, no_callback: None) -> None:
    work, operands = operations(f)[operation]
    traced = jax.jit(canary.tracing(work, canary.CORRECTABLE, "tpu")).trace(*operands)
    assert unsealed.find(traced.jaxpr) == []
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    assert [line for line in text.splitlines() if INEXACT.search(line)] == []
    assert "f16>" not in text and "f64>" not in text


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_K", "Q5_K_HIFI_RES8"])
def test_inside_a_callers_jit_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "corrections", lambda platform: canary.CORRECTABLE)
    monkeypatch.setattr(canary, "failures", lambda platform: ())
    called = []

    def call(work: Any, shape: Any, dtype: Any, *operands: Any) -> Any:
        called.append(dtype)
        return jax.numpy.zeros(shape, dtype)

    monkeypatch.setattr(clean_thread, "call", call)
    x, importance = np.ones((2, 512), np.float32), jax.ShapeDtypeStruct((512,), np.float32)
    # A constant, whose seals would lie open but for the barrier
    traced = jax.jit(lambda importance: hr.encode(name, jax.numpy.asarray(x), importance)).trace(importance)
    assert unsealed.find(traced.jaxpr) == []
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    assert np.uint8 in called and "optimization_barrier" in text
    assert [line for line in text.splitlines() if INEXACT.search(line)] == []


# THE SEARCH FOR UNSEALED PRODUCTS, and what it must see


def pair(a: Any, b: Any, c: Any) -> Any:
    lax = jax.lax
    return lax.bitcast_convert_type(lax.bitcast_convert_type(a * b, np.uint32), np.float32) + c


UNSEALED = {
    "multiply-add": lambda a, b, c: a * b + c,
    "difference": lambda a, b, c: c - a * b,
    "negated": lambda a, b, c: c - -(a * b),
    "chosen": lambda a, b, c: jax.numpy.where(a > 0, a * b, b) + c,
    "reshaped": lambda a, b, c: (a * b).reshape(2, -1).T + c.reshape(-1, 2),
    "square": lambda a, b, c: a**2 + c,
    "bitcast and back": pair,
    "loop": lambda a, b, c: jax.lax.fori_loop(0, 3, lambda i, t: t + a * b, c),
    "carried": lambda a, b, c: jax.lax.fori_loop(0, 3, lambda i, t: (t[0] + t[1], t[1] * b), (a, c))[0],
    "branch": lambda a, b, c: jax.lax.cond(a[0] > 0, lambda: a * b, lambda: a) + c,
    "in a pair": lambda a, b, c: exact.unpair(exact.pair(a * b, b))[0] + c,
    "by a known zero": lambda a, b, c: exact.from_bits(exact.bits(a * b) ^ np.zeros(4, np.uint32)) + c,
    "quotient by a constant": lambda a, b, c: a / np.float32(63) + c,
    "constants": lambda a, b, c: a * np.float32(0.1) * np.float32(0.3),
    "25 bits": lambda a, b, c: exact.f32(exact.bits(a) & 0x3FFF) * exact.widen_f16(exact.i16(b).view(np.uint16)) + c,
    "sum": lambda a, b, c: a.sum(),
    "matrix product": lambda a, b, c: a @ b,
}
SEALED = {
    "multiply-add": exact.madd,
    "loop": lambda a, b, c: jax.lax.fori_loop(0, 3, lambda i, t: t + exact.mul(a, b), c),
    "sealed by one zero": lambda a, b, c: exact.sealed_by(c)[1](a, b) + c,
    "quotient": lambda a, b, c: exact.div(a, np.float32(63)) + c,
    "power of two": lambda a, b, c: a * np.float32(0.125) + c,
    "24 bits": lambda a, b, c: exact.f32(exact.bits(a) & 0x1FFF) * exact.widen_f16(exact.i16(b).view(np.uint16)) + c,
    "wall": lambda a, b, c: exact.wall(exact.mul(a, b)) + c,
    "whole numbers": lambda a, b, c: exact.bits(a) * exact.bits(b) + exact.bits(c),
    "largest": lambda a, b, c: a.max() + c,
}


@pytest.mark.parametrize("case", UNSEALED)
def test_what_could_be_fused_is_found(case: str) -> None:
    assert unsealed.find(jax.make_jaxpr(UNSEALED[case])(*np.ones((3, 4), np.float32)))


@pytest.mark.parametrize("case", SEALED)
def test_what_could_not_is_passed_over(case: str) -> None:
    assert unsealed.find(jax.make_jaxpr(SEALED[case])(*np.ones((3, 4), np.float32))) == []


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q3_K", "Q4_K", "Q6_K", "IQ4_XS", "Q6_K_HIFI_RES8"])
def test_a_zero_that_compilers_know_is_found_in_a_format(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arithmetic, bit_patterns):
        monkeypatch.setattr(module, "hidden_zero", lambda witness: jax.numpy.zeros(witness.shape, np.uint32))
    f = FORMATS[name]
    x, importance = np.ones((1, BLOCKS, f.block_size), np.float32), np.ones((BLOCKS, f.block_size), np.float32)
    errors = unsealed.find(jax.make_jaxpr(lambda x, importance: watched.encode(f, x, importance))(x, importance))
    assert any("of an unsealed product" in error for error in errors)


# WITHOUT WHAT A BACK END GETS WRONG


def by_hand(work: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(canary.tracing(work, canary.CORRECTABLE))


def test_binary16_in_whole_numbers() -> None:
    half = np.arange(1 << 16, dtype=np.uint16)
    wide = half.view(np.float16).astype(np.float32)
    assert hard_inputs.same_floats(by_hand(exact.widen_f16)(half), wide).all()
    beside = wide.view(np.uint32)[:, None] + np.array([0, 1, 0xFFF, 0x1000, 0x1001, 2**32 - 1], np.uint32)
    multiples = (np.arange(1 << 13).astype(np.float32) * np.float32(2.0**-26)).view(np.uint32)[:, None]
    multiples = multiples + np.array([0, 1, 2**32 - 1], np.uint32)
    anything = np.random.default_rng(0).integers(0, 2**32, 1 << 16, dtype=np.uint32)
    x = np.concatenate([beside.ravel(), multiples.ravel(), anything]).view(np.float32)
    with np.errstate(all="ignore"):
        expected = exact.narrow_f16(x)
    assert (np.asarray(by_hand(exact.narrow_f16)(x)) == expected).all()


@pytest.mark.parametrize("name", ["F16", "BF16", "F32"])
def test_binary64_by_a_callback(name: str) -> None:
    f = FORMATS[name]
    rng = np.random.default_rng(1)
    w, a = (hard_inputs.random_blocks(f, rng, count) for count in (3 * 64, 64))
    w, a = (hard_inputs.tame_scales(f, blocks, rng) for blocks in (w, a))
    w = w.reshape(3, 64, -1)
    assert (np.asarray(by_hand(f.dot)(w, a)) == numpy_lane.dot(f, f, w.reshape(3, -1), a.reshape(-1))).all()


@pytest.mark.parametrize("of", [canary.importance.of_block, canary.importance.of_tensor])
def test_importance_by_a_callback(of: Callable[..., Any]) -> None:
    w = np.exp(np.random.default_rng(2).standard_normal((5, 256))).astype(np.float32)
    assert np.asarray(by_hand(of)(w)).tobytes() == of(w).tobytes()


def test_an_operation_that_does_not_compile_is_taken_from_the_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: Any, platform: str, by_hand: frozenset[str], operands: Any) -> Any:
        if "binary64 sums" not in by_hand and work in (canary._probe, canary.PROBE["binary64 sums"]):
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: F64")
        with np.errstate(all="ignore"):
            return work(*operands)

    monkeypatch.setattr(canary, "_observed", refuse)
    assert canary._wrong("elsewhere", frozenset()) == ("binary64 sums",)
    assert canary._wrong("elsewhere", frozenset({"binary64 sums"})) == ()
    canary._wrong.cache_clear()


def test_what_is_traced_may_run_on_any_back_end_that_is_here() -> None:
    found = []
    jax.make_jaxpr(lambda x: found.append(canary.platforms_of(x)) or x)(1.0)
    assert found == [("cpu",)] and canary.platforms_of(np.ones(3)) == (jax.default_backend(),)


# PIECES ON A DEVICE


@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_on_a_device(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last piece begins within the one before; blocks that are marked are put back."""
    monkeypatch.setattr(encoding, "LARGE_CHUNK", 4 * 96)
    f = FORMATS["Q4_0"]
    x = np.random.default_rng(3).standard_normal((10, 96)).astype(np.float32)
    x[4, :32] *= np.float32(2.0**-130)
    weights = np.exp(np.random.default_rng(4).standard_normal(96)).astype(np.float32) if weighted else None
    observed = encoding._encode_on_device(f, jax.numpy.asarray(x), weights, "cpu")
    assert (np.asarray(observed).reshape(-1) == numpy_lane.encode(f, x, weights).reshape(-1)).all()


@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_pieces_of_a_search_elsewhere(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "MANY_BLOCKS", 3)
    lengths = []

    def encode(x: Any, weights: Any) -> Any:
        lengths.append(x.shape[1])
        exact.mark(x[..., 0] == 4)
        return x + weights

    stand_in = SimpleNamespace(name="IQ2_S", encode=encode)
    x, weights = np.arange(2 * blocks * 4, dtype=np.float32).reshape(2, blocks, 4), np.ones((blocks, 4), np.float32)
    run = jax.jit(canary.tracing(lambda x, weights: watched.encode(stand_in, x, weights), frozenset(), "gpu"))
    both, marked = map(np.asarray, run(x, weights))
    assert (both == x + 1).all() and (marked == (x[..., 0] == 4)).all()
    assert lengths[0] == {1: 2, 3: 3, 7: 3}[blocks]


# NOT A NUMBER: its sign and its low bits are a processor's own


@pytest.mark.parametrize("name", ["Q4_1", "Q8_K"])
def test_a_block_that_stores_a_nan_is_left_to_numpy(name: str) -> None:
    f = FORMATS[name]
    field = f.layout.fields[0]
    scales = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16 if field.dtype == "f32" else 0)
    blocks = np.zeros((1, len(scales), f.type_size), np.uint8)
    blocks[0, :, : field.size] = scales.view(np.uint8).reshape(-1, 4)[:, : field.size]
    found = jax.jit(lambda blocks: encoding.stores_nan(f, blocks))(blocks)
    values = scales.view(np.float32) if field.dtype == "f32" else scales.astype(np.uint16).view(np.float16)
    assert (np.asarray(found)[0] == np.isnan(values)).all()


@pytest.mark.parametrize("name, kind", [("Q4_0", "lognormal"), ("Q6_K", "none"), ("NVFP4", "none")])
def test_encoders_keep_their_bits_without_it(name: str, kind: str) -> None:
    """On hard weights; overflow makes NaNs of another sign in long division, as on a GPU."""
    f, n = FORMATS[name], 512
    x, weights = hard_inputs.all_weights(6, 1, n), hard_inputs.importance(kind, 7, n)
    encode = canary.tracing(encoding._encode_for(f, is_cpu=False), canary.CORRECTABLE)
    run = jax.jit(encode, compiler_options=jax_lane.CPU_OPTIONS)
    blocks, marked = map(np.asarray, run(*encoding._blocked(f, x, weights)))
    assert marked.mean() < 0.6
    whole = encoding._repair(f, *encoding._blocked(f, x, weights), blocks, marked)
    assert (whole.reshape(-1) == numpy_lane.encode(f, x, weights).reshape(-1)).all()


def test_nearest_int_of_any_nan_elsewhere() -> None:
    nans = np.array([0x7FFFFFFF, 0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    run = jax.jit(canary.tracing(exact.nearest_int, frozenset(), "gpu"))
    assert np.asarray(run(nans)).tolist() == [0, 0, 0]


# THE SCRIPT FOR A CARD


def test_the_script_for_a_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, before there is a card."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    report = tmp_path / "benchmarks.md"
    report.write_text("# Benchmarks\n\n## cpu\n\nold\n\n## Another\n\nkept\n")
    assert on_a_card.main(["--dry", "--kernels=False", "--formats=Q8_0", f"--to={report}"]) == 0
    text = report.read_text()
    assert text.count("## cpu") == 1 and "old" not in text and "kept" in text
    assert "| Q8_0 |" in text and "Q8_0 0." in text


def test_the_script_for_a_card_counts_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(on_a_card, "CHECKS", {"encode": lambda name, size: (1.0, 3)})
    monkeypatch.setattr(on_a_card, "INSIDE_JIT", ())
    assert on_a_card.main(["--dry", "--kernels=False", "--formats=Q8_0"]) == 1
    assert on_a_card.main(["--dry", "--formats=Q9_9"]) == 2
