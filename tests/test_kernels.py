"""hr.matmul and its kernels against the definition's dot, which other tests hold against the release."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import hifi_ref as hr
from golden import judge
from hifi_ref.formats import LLAMA_CPP, codebooks
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.formats.hard_inputs import same_floats
from hifi_ref.ground import command as ground
from hifi_ref.kernels import backends, canary, columns, compiled, gemm, planes, split, vec_dot
from hifi_ref.kernels.plans import PLANS
from hifi_ref.lanes import choose, jax_lane

ROWS, COLUMNS, N = 40, 8, 512
WITH_DOT = [name for name in LLAMA_CPP if hr.FORMATS[name].dot is not None]
KERNELS = [name for name in PLANS if name in LLAMA_CPP]


def one_by_one(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    return np.stack([hr.dot(name, w, column, lane="numpy") for column in a])


def hard_operands(name: str, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Any bytes, so that scales are infinite and codes extreme; activations of any size."""
    rng = np.random.default_rng(hr.FORMATS[name].type_id)
    f = hr.FORMATS[name]
    w = inputs.random_blocks(f, rng, ROWS * n // f.block_size).reshape(ROWS, -1)
    x = rng.standard_normal((COLUMNS, n)).astype(np.float32) * np.exp2(rng.integers(-12, 12, (COLUMNS, 1)))
    return w, x.astype(np.float32)


def operands_of(name: str, w: np.ndarray, a: np.ndarray) -> tuple:
    f = hr.FORMATS[name]
    partner = hr.FORMATS[f.dot_with]
    return (
        split.matrix(f, w.reshape(len(w), -1, f.type_size)),
        split.activations(partner.name, a.reshape(len(a), -1, partner.type_size)),
    )


# THE CPU


def test_every_format_with_whole_sums_has_a_plan():
    with_sums = [name for name in WITH_DOT if hr.FORMATS[name].dot_with != name or name == "Q8_0"]
    assert sorted(name for name in PLANS if name in LLAMA_CPP) == sorted(with_sums)


@pytest.mark.parametrize("name", WITH_DOT)
def test_exact_bits(name):
    # Q4_0 and the like also with a row that is no whole number of groups.
    w, x = hard_operands(name, N + 32 if hr.FORMATS[name].block_size == 32 else N)
    a = hr.encode(hr.FORMATS[name].dot_with, x)
    result = hr.matmul(name, jnp.asarray(w), jnp.asarray(x))
    assert isinstance(result, jax.Array)
    assert same_floats(np.asarray(result), one_by_one(name, w, a)).all()


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_1", "Q2_K", "Q6_K", "IQ2_XXS"])
def test_fast_lies_within_the_bound(name):
    w, a = canary.operands(name, ROWS, N, COLUMNS)
    f = hr.FORMATS[name]
    product = jax.jit(columns.product, static_argnums=(0, 1, 4, 5))
    result = np.asarray(product(f, hr.FORMATS[f.dot_with], w, a, "fast", "cpu"))
    for column, observed in zip(a, result, strict=True):
        assert hr.dot_exact(name, w, column).holds(observed).all()


@pytest.mark.parametrize("name", KERNELS)
def test_golden_vectors(name):
    """The compiled product and the kernel, nothing repaired: activations are quantized already, as the vectors' are.

    Of faint sums it is enough that they would be repaired.
    """
    f, g = hr.FORMATS[name], hr.FORMATS[hr.FORMATS[name].dot_with]
    tests = [test for test in judge.all_tests(judge.load(name, "dot")) if "rows" not in test]
    # Blocks of zeros behind a shorter row add zeros.
    w, a = (filled([judge.raw(test[key]) for test in tests]) for key in ("w", "a"))
    product = jax.jit(columns.product, static_argnums=(0, 1, 4, 5), compiler_options=jax_lane.CPU_OPTIONS)
    marked = jax.jit(columns.marked, static_argnums=(0, 1), compiler_options=jax_lane.CPU_OPTIONS)
    faint = ["FaintSums" in test["flags"] for test in tests]
    repaired = [there and bool(marked(f, g, w[i : i + 1], a[i : i + 1])[0]) for i, there in enumerate(faint)]
    for result in (product(f, g, w, a, "exact", "cpu"), interpreted(name)(w, a)):
        assert (judge.agrees(np.diagonal(result).reshape(-1, 1).copy(), tests) | repaired).all()


def filled(rows: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(rows), max(len(row) for row in rows)), np.uint8)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def test_numpy_in_numpy_out_and_leading_axes():
    w, x = hard_operands("Q4_K")
    expected = one_by_one("Q4_K", w, hr.encode("Q8_K", x))
    small, large = hr.matmul("Q4_K", w, x[0]), hr.matmul("Q4_K", np.tile(w, (32, 1)), x.reshape(2, 4, N))
    assert type(small) is np.ndarray and small.shape == (ROWS,)
    assert type(large) is np.ndarray and large.shape == (2, 4, 32 * ROWS)
    assert same_floats(small, expected[0]).all()
    assert same_floats(large.reshape(COLUMNS, 32, ROWS), expected[:, None].repeat(32, axis=1)).all()
    assert hr.matmul("Q4_K", w, np.zeros((0, N), np.float32)).shape == (0, ROWS)


def test_many_rows_go_in_chunks(monkeypatch):
    w, x = hard_operands("Q8_0")
    monkeypatch.setattr(compiled, "ROWS", 12)
    expected = one_by_one("Q8_0", w, hr.encode("Q8_0", x))
    assert same_floats(np.asarray(hr.matmul("Q8_0", jnp.asarray(w), jnp.asarray(x))), expected).all()


@pytest.mark.parametrize("name", ["Q4_K", "MXFP4"])
def test_underflow_is_repaired(name):
    w, x = hard_operands(name)
    x[1::2] *= np.float32(1e-30)
    if name == "MXFP4":
        w[:, 0] = 3
    expected = one_by_one(name, w, hr.encode(hr.FORMATS[name].dot_with, x))
    assert same_floats(np.asarray(hr.matmul(name, jnp.asarray(w), jnp.asarray(x))), expected).all()
    inside = jax.jit(lambda w, x: hr.matmul(name, w, x) + 0)(w, x)
    assert same_floats(np.asarray(inside), expected + np.float32(0)).all()


def test_bad_input_is_refused():
    w, x = hard_operands("Q4_K")
    for arguments, message in (
        (("Q4_K", w, x, "quick"), "mode must be one of exact, fast"),
        (("Q4_K", w[0], x), "w must be uint8"),
        (("Q4_K", w, x[:, :256]), "a row of w holds 512 weights, but a row of x has 256"),
        (("Q4_K", w, np.where(x == x[1, 2], np.nan, x)), r"x\[1, 2\] is nan"),
        (("Q4_L", w, x), "no format is called"),
    ):
        with pytest.raises(ValueError, match=message):
            hr.matmul(*arguments)
    with pytest.raises(NotImplementedError, match="Q8_K has no dot"):
        hr.matmul("Q8_K", w, x)


def test_split_over_devices():
    """Four devices need a process of their own."""
    script = """
import jax, numpy as np, hifi_ref as hr
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from tests.test_kernels import hard_operands, one_by_one, same_floats
mesh = Mesh(np.array(jax.devices()), ("x",))
assert mesh.size == 4
w, x = hard_operands("Q4_K")
expected = one_by_one("Q4_K", w, hr.encode("Q8_K", x))
rows, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
w, x = jax.device_put(w, rows), jax.device_put(x, whole)
assert same_floats(np.asarray(jax.jit(hr.matmul, static_argnums=0)("Q4_K", w, x)), expected).all()
local = jax.shard_map(
    lambda w, x: hr.matmul("Q4_K", w, x), mesh=mesh, in_specs=(P("x"), P()), out_specs=P(None, "x"), check_vma=False
)
assert same_floats(np.asarray(jax.jit(local)(w, x)), expected).all()
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | flags, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


# THE PARTS


def test_look_up():
    for steps in ((5, -3), (1, 2, 3), tuple(range(-6, 0)), tuple(range(3, 19))):
        index = np.arange(len(steps), dtype=np.int8)
        assert codebooks.look_up(steps, index).tolist() == list(steps)


@pytest.mark.parametrize("widths", [(1,), (2,), (4,), (2, 1), (4, 1), (4, 2)])
def test_planes_keep_codes(widths):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2 ** sum(widths), (2, 8, 32, 128), dtype=np.uint8)
    packed = planes.pack(jnp.asarray(codes), widths)
    assert sum(p.shape[1] * 8 for p in packed) == 256 * sum(widths)
    for first, count in ((0, 32), (48, 16), (224, 32)):
        found = planes.unpack(packed, widths, 1, first, count)
        assert (np.asarray(found) == codes.reshape(2, 256, 128)[1, first : first + count]).all()


def test_scales_in_words():
    scales = np.random.default_rng(0).integers(-128, 128, (2, 16, 5), dtype=np.int8)
    words = planes.words(jnp.asarray(scales))
    found = [np.asarray(planes.scale_at(words, 1, s))[0] for s in range(16)]
    assert (np.stack(found) == scales[1]).all()


def test_sums_in_parts_stay_exact():
    """The largest codes and scales that a format has, of one sign, against int64."""
    for name, plan in PLANS.items():
        if plan.sums == "whole":
            codes = np.full((256, 3), plan.largest, np.float32)
            q = np.full((256, 2), -128, np.float32)
            assert (np.asarray(gemm.total_of_parts(plan, codes, q)) == -128 * 256 * plan.largest).all(), name


# THE KERNEL


def interpreted(name: str):
    return jax.jit(lambda w, a: vec_dot.product(PLANS[name], *operands_of(name, w, a), "interpret"))


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_without_races(name, quick_compiler, capsys):
    """Four programs on two cores of the interpreter for TPUs."""
    assert canary.is_exact(name, "tpu interpret")
    assert "RACE DETECTED" not in capsys.readouterr().out


def test_races_are_found(quick_compiler, capsys):
    def kernel(x, out):
        out[...] = x[...]

    # Both programs write the same block.
    copy = backends.call(
        kernel, "tpu interpret", grid=(2,), in_specs=[pl.BlockSpec((8, 128), lambda i: (i, 0))],
        out_specs=pl.BlockSpec((8, 128), lambda i: (0, 0)), out_shape=jax.ShapeDtypeStruct((8, 128), np.float32),
    )  # fmt: skip
    copy(np.ones((16, 128), np.float32))
    assert "RACE DETECTED" in capsys.readouterr().out


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_lowers_for_a_tpu(name):
    pair = hr.FORMATS[name], inputs.partner_of(hr.FORMATS[name])
    shapes = [jax.ShapeDtypeStruct((8, 256 // f.block_size * f.type_size), np.uint8) for f in pair]

    def product(w, a):
        return vec_dot.product(PLANS[name], *operands_of(name, w, a), "tpu")

    device = AbstractDevice(device_kind="TPU v6 lite", num_cores=1, platform="tpu")
    with use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        exported = jax.export.export(jax.jit(product), platforms=["tpu"])(*shapes)
    assert "tpu_custom_call" in exported.mlir_module()


# ITS CANARY


@pytest.fixture
def elsewhere(monkeypatch):
    """A platform whose kernels are interpreted, and wrong for Q4_0."""
    canary.is_exact.cache_clear()
    monkeypatch.setitem(backends.OF_PLATFORM, "elsewhere", "interpret")
    monkeypatch.setitem(PLANS, "Q4_0", PLANS["Q4_0"]._replace(value=7))
    yield "elsewhere"
    canary.is_exact.cache_clear()


def test_a_wrong_kernel_takes_nothing_from_the_others(elsewhere, monkeypatch):
    assert canary.failures("interpret", ("Q8_0", "Q4_0")) == ("Q4_0",)
    for name in ("Q8_0", "Q4_0"):
        w, x = hard_operands(name)
        a = hr.encode("Q8_0", x)
        arguments = hr.FORMATS[name], hr.FORMATS["Q8_0"], w, a, "exact", elsewhere
        if name == "Q8_0":
            assert same_floats(np.asarray(columns.product(*arguments)), one_by_one(name, w, a)).all()
            continue
        with pytest.raises(RuntimeError, match="the interpret kernel of Q4_0 gives other bits"):
            columns.product(*arguments)
    monkeypatch.setattr(ground, "formats_tried", lambda backend: ("Q8_0", "Q4_0"))
    assert ground.kernel_summary("interpret") == "exact for 1 of 2 formats tried; refused: Q4_0"


def test_numpy_takes_the_place_of_a_wrong_kernel(elsewhere, monkeypatch):
    refusal = columns.refusal
    monkeypatch.setattr(columns, "refusal", lambda f, mode, platform: refusal(f, mode, elsewhere))
    monkeypatch.setattr(choose, "lane", lambda kind, n: "jax")
    w, x = hard_operands("Q4_0")
    with pytest.warns(RuntimeWarning, match="kernel of Q4_0 gives other bits, so hifi_ref uses NumPy for it"):
        result = hr.matmul("Q4_0", w, x)
    assert same_floats(result, one_by_one("Q4_0", w, hr.encode("Q8_0", x))).all()


def test_a_kernel_that_does_not_compile_is_refused(elsewhere, monkeypatch):
    """Triton has no compiler for a CPU."""
    monkeypatch.setitem(backends.RUNS_ON, "triton", "cpu")
    assert canary.failures("triton", ("Q8_0",)) == ("Q8_0",)
    assert columns.refusal(hr.FORMATS["Q8_0"], "exact", "nowhere") == "there are no kernels for the nowhere back end"
