"""Every format against the pinned release: bytes, decoder, encoder, dot product, in both lanes and inside jit."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hifi_ref as hr
from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.formats.hard_inputs import FAMILIES, same_floats
from reference import refusals, release

LANES = ("numpy", "jax")
ROWS = 2
N = 512
DOT_ROWS, DOT_N = 6, 2048


def cases(operation: str) -> list[str]:
    """The names of the formats that offer an operation."""
    return [f.name for f in LLAMA_CPP.values() if getattr(f, operation, None) is not None]


each_format = pytest.mark.parametrize("name", cases("layout"))
each_decoder = pytest.mark.parametrize("name", cases("decode"))
each_dot = pytest.mark.parametrize("name", cases("dot"))
each_lane = pytest.mark.parametrize("lane", LANES)


def examples(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Q4_0"])
def test_a_format_stays_in_one_process(request: pytest.FixtureRequest, name: str) -> None:
    """By conftest.py; pytest-xdist says so in a test's name, and where it does not, every format is compiled twice."""
    assert not request.config.getoption("loadgroup", False) or request.node.nodeid.endswith("@Q4_0")


# LAYOUT


@each_format
def test_the_docstring_shows_the_layout(name: str) -> None:
    f = FORMATS[name]
    text = import_module(f"hifi_ref.formats.{name.lower()}").__doc__
    table = "".join(f"    {line}\n" for line in f.layout.table().splitlines())
    assert f"\n\n{table}\n" in text
    size = f"{f.block_size} weights in {f.type_size} bytes, {f.layout.bits_per_weight:.8g} bits per weight"
    size = size.replace("weights in", "activations in") if name in ("Q8_1", "Q8_K") else size
    first = text.splitlines()[0]
    assert first.startswith(f"{name}: ")
    assert f.block_size == 1 or first.startswith(f"{name}: {size.split(', ')[0] if 'activ' in size else size}")


@each_format
def test_number_and_sizes_are_gguf_s(name: str) -> None:
    f = FORMATS[name]
    kinds = {kind.name: kind for kind in gguf.GGMLQuantizationType}
    # Newer than some releases of the gguf package.
    if name in ("Q1_0", "Q2_0", "NVFP4") and name not in kinds:
        assert f.type_id == {"NVFP4": 40, "Q1_0": 41, "Q2_0": 42}[name]
        return
    assert f.type_id == kinds[name]
    if name != "Q8_1":
        assert (f.block_size, f.type_size) == gguf.GGML_QUANT_SIZES[kinds[name]]


@each_format
@each_lane
def test_pack_undoes_unpack(name: str, lane: str) -> None:
    f = FORMATS[name]
    blocks = inputs.random_blocks(f, np.random.default_rng(3), 1000)
    fields = f.layout.unpack(blocks)
    # Narrowing makes one NaN of all; every other bit pattern must come back.
    halves = [values for field, values in zip(f.layout.fields, fields, strict=True) if field.dtype == "f16"]
    blocks = blocks[~np.isnan(np.array(halves)).any(axis=0)] if halves else blocks
    unpack, pack = f.layout.unpack, lambda fields: f.layout.pack(**dict(zip(f.layout.names, fields, strict=True)))
    if lane == "jax":
        unpack, pack = jax.jit(unpack), jax.jit(pack)
    fields = unpack(blocks)
    by_name = f.layout.by_name(blocks)
    assert list(by_name) == f.layout.names and [v.shape for v in by_name.values()] == [v.shape for v in fields]
    assert np.array_equal(np.asarray(pack(fields)), blocks)
    spans = [f.layout.span(key) for key in f.layout.names]
    assert [f.layout.field_at(at.start).name for at in spans] == f.layout.names
    assert [f.layout.field_at(at.stop - 1).name for at in spans] == f.layout.names


# DECODE


def check_decode(name: str, blocks: np.ndarray, lane: str) -> None:
    expected = release.decode(name, blocks)
    same = same_floats(hr.decode(name, blocks, lane=lane).reshape(expected.shape), expected)
    if not same.all():
        block, weight = np.argwhere(~same)[0]
        observed = hr.decode(name, blocks[block], lane=lane)[weight]
        pytest.fail(
            f"{name} block {blocks[block].tobytes().hex()}: weight {weight} is {observed!r}, "
            f"the release gives {expected[block, weight]!r} ({(~same).sum()} weights differ)"
        )


@each_decoder
@each_lane
def test_decode_every_scale(name: str, lane: str) -> None:
    check_decode(name, inputs.scale_blocks(FORMATS[name], np.random.default_rng(4)), lane)


@each_decoder
@each_lane
def test_decode_each_bit_alone(name: str, lane: str) -> None:
    f = FORMATS[name]
    base = inputs.tame_scales(f, np.zeros((1, f.type_size), np.uint8), np.random.default_rng(5))[0]
    one_bit = np.packbits(np.eye(8 * f.type_size, dtype=np.uint8), axis=1, bitorder="little")
    check_decode(name, np.concatenate([one_bit, base ^ one_bit]), lane)


@each_decoder
@each_lane
@given(data=st.data())
@examples(12)
def test_decode_any_bytes(name: str, lane: str, data: st.DataObject) -> None:
    size = 4 * FORMATS[name].type_size
    raw = data.draw(st.binary(min_size=size, max_size=size))
    check_decode(name, np.frombuffer(raw, np.uint8).reshape(4, -1), lane)


# ENCODE


def check_encode(name: str, x: np.ndarray, weights: np.ndarray | None, lane: str, labels: list[str]) -> None:
    """Where the release refuses a row there is nothing to compare with: there the lanes must agree."""
    f = FORMATS[name]
    expected, accepted = refusals.encode_or_refuse(name, x, weights)
    if not accepted.all():
        expected = np.where(accepted[:, None], expected, hr.encode(name, x, weights, lane="numpy"))
    observed = hr.encode(name, x, weights, lane=lane)
    assert (observed.dtype, observed.shape) == (np.uint8, expected.shape)
    rows = np.flatnonzero((observed != expected).any(axis=1))
    if rows.size:
        byte = int(np.flatnonzero(observed[rows[0]] != expected[rows[0]])[0])
        block, at = divmod(byte, f.type_size)
        values = x[rows[0]].reshape(-1, f.block_size)[block]
        pytest.fail(
            f"{name}: {rows.size} rows differ from the release, the first of {labels[rows[0]]} in block {block}, field "
            f"{f.layout.field_at(at).name}, byte {at}: {observed[rows[0], byte]:#04x}, not "
            f"{expected[rows[0], byte]:#04x}; its weights are {values.tobytes().hex()}"
        )


ENCODE_CASES = [
    (f.name, kind) for f in LLAMA_CPP.values() if f.encode is not None for kind in inputs.importance_kinds(f)
]


@pytest.mark.parametrize(("name", "importance"), ENCODE_CASES)
@each_lane
def test_encode_every_family(name: str, importance: str, lane: str) -> None:
    x = inputs.all_weights(6, ROWS, N)
    labels = [family for family in FAMILIES for _ in range(ROWS)]
    check_encode(name, x, inputs.importance(importance, 7, N), lane, labels)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(("name", "importance"), ENCODE_CASES)
@each_lane
@given(data=st.data())
@examples(8)
def test_encode_any_floats(name: str, importance: str, lane: str, data: st.DataObject) -> None:
    # The shape of the families, so that nothing is compiled anew.
    x = np.zeros((len(FAMILIES) * ROWS, N), np.float32)
    x[:2] = data.draw(arrays(np.float32, (2, N), elements=FINITE))
    check_encode(name, x, inputs.importance(importance, 8, N), lane, ["a drawn row"] * len(x))


@pytest.mark.parametrize("name", cases("encode"))
def test_importance_of_zero_everywhere(name: str) -> None:
    x = inputs.all_weights(9, 1, N)
    check_encode(name, x, np.zeros(N, np.float32), "numpy", list(FAMILIES))


# DOT


def dot_operands(f: Format, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Rows and activations: (what they are, uint8[DOT_ROWS, row bytes], uint8[row bytes of the partner])."""
    rng = np.random.default_rng(seed)
    g = inputs.partner_of(f)
    nw, na = DOT_ROWS * DOT_N // f.block_size, DOT_N // g.block_size

    def tame(kind: Format, count: int) -> np.ndarray:
        return inputs.tame_scales(kind, inputs.random_blocks(kind, rng, count), rng)

    w, a = tame(f, nw), tame(g, na)
    yield "bytes", w, a
    yield "bytes with any scale", inputs.random_blocks(f, rng, nw), inputs.random_blocks(g, rng, na)
    for byte in (0x00, 0x7F, 0x80, 0xFF):
        full_w, full_a = (np.full((n, kind.type_size), byte, np.uint8) for n, kind in ((nw, f), (na, g)))
        yield f"bytes {byte:#04x}", inputs.tame_scales(f, full_w, rng), inputs.tame_scales(g, full_a, rng)
        yield f"activations {byte:#04x}", w, inputs.tame_scales(g, full_a, rng)
    # The second half of each row takes back what the first has added.
    x = rng.standard_normal((1, DOT_N // 2)).astype(np.float32)
    cancelling = release.encode(g.name, np.concatenate([x, -x], axis=1))
    yield "cancellation", np.tile(w.reshape(2 * DOT_ROWS, -1)[:DOT_ROWS], 2), cancelling
    for family in FAMILIES:
        a = release.encode(g.name, inputs.weights(family, rng, 1, DOT_N))
        yield f"activations of {family}", w, a
        if f.encode is not None and not refusals.may_refuse(f.name):
            yield family, release.encode(f.name, inputs.weights(family, rng, DOT_ROWS, DOT_N)), a


def check_dot(name: str, w: np.ndarray, a: np.ndarray, lane: str, label: str) -> None:
    w, a = w.reshape(-1, DOT_N // FORMATS[name].block_size * FORMATS[name].type_size), a.reshape(-1)
    expected = release.dot(name, w, a)
    observed = hr.dot(name, w, a, lane=lane)
    same = same_floats(observed, expected)
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        pytest.fail(f"{name}, {label}: row {row} gives {observed[row]!r}, the release {expected[row]!r}")


@each_dot
@each_lane
def test_dot_every_family(name: str, lane: str) -> None:
    for label, w, a in dot_operands(FORMATS[name], 10):
        check_dot(name, w, a, lane, label)


@each_dot
@given(data=st.data())
@examples(25)
def test_dot_any_bytes(name: str, data: st.DataObject) -> None:
    f = FORMATS[name]
    g = inputs.partner_of(f)
    n = 256
    sizes = (n // f.block_size * f.type_size, n // g.block_size * g.type_size)
    w, a = (np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8) for size in sizes)
    observed, expected = hr.dot(name, w[None], a, lane="numpy"), release.dot(name, w[None], a)
    assert same_floats(observed, expected).all(), (observed, expected)


# INSIDE THE CALLER'S JIT


# Encoders that take XLA ten seconds, and stay outside; their searches are those of IQ3_S.
NOT_ENCODED = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")


@each_format
def test_inside_jit(name: str) -> None:
    """Operands that are arguments of the caller's function, and operands that are constants in it."""
    f = FORMATS[name]
    rng = np.random.default_rng(11)
    families = ("gauss", "gauss 1e-12", "subnormal", "near ties")
    x = np.concatenate([inputs.weights(family, rng, 1, N) for family in families])
    weights = inputs.importance("lognormal" if f.requires_weights else "none", 12, N)
    blocks = inputs.scale_blocks(f, rng)[: 64 * 256 // f.block_size]
    calls = {"decode": (lambda b: hr.decode(name, b), (blocks,), release.decode(name, blocks))}
    if f.encode is not None and name not in NOT_ENCODED:
        expected, accepted = refusals.encode_or_refuse(name, x, weights)
        assert accepted.all()
        calls["encode"] = (lambda x: hr.encode(name, x, given_weights(weights)), (x,), expected)
    if f.dot is not None:
        w, a = next((w, a) for label, w, a in dot_operands(f, 13) if label == "bytes")
        w, a = w.reshape(DOT_ROWS, -1), a.reshape(-1)
        calls["dot"] = (lambda w, a: hr.dot(name, w, a), (w, a), release.dot(name, w, a))

    def run(operands: dict[str, tuple]) -> dict[str, dict]:
        results: dict[str, dict] = {}
        for kind, (function, arguments, _) in calls.items():
            results[kind] = {
                "arguments": function(*operands[kind]),
                "constants": function(*map(jnp.asarray, arguments)),
            }
        return results

    results = jax.jit(run)({k: arguments for k, (_, arguments, _) in calls.items()})
    for operation, (_, _, expected) in calls.items():
        for place, observed in results[operation].items():
            observed = np.asarray(observed).reshape(expected.shape)
            same = observed == expected if operation == "encode" else same_floats(observed, expected)
            assert same.all(), f"{operation} of {place}: {(~same).sum()} of {same.size} differ"


def given_weights(weights: np.ndarray | None) -> jax.Array | None:
    return None if weights is None else jnp.asarray(weights)
