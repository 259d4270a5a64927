"""hr.matmul and the kernels on formats with outliers, against the definition's dot."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import hifi_ref as hr
from golden import judge
from hifi_ref.formats import HIFI
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.formats.hard_inputs import same_floats
from hifi_ref.kernels import canary, columns, split, vec_dot
from hifi_ref.kernels.plans import PLANS
from hifi_ref.lanes import jax_lane

ROWS, COLUMNS, N = 40, 8, 512
WITH_DOT = [name for name, f in HIFI.items() if f.dot is not None]
GOLDEN = judge.HERE / "hifi"
each_format = pytest.mark.parametrize("name", WITH_DOT)


def one_by_one(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    return np.stack([hr.dot(name, w, column, lane="numpy") for column in a])


def hard_operands(name: str, n: int = N, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Any bytes in half of the rows, usual scales in the others, positions twice over; activations of any size."""
    f = HIFI[name]
    rng = np.random.default_rng(WITH_DOT.index(name))
    w = inputs.random_blocks(f, rng, ROWS * n // f.block_size)
    w[len(w) // 2 :] = inputs.tame_scales(f, w[len(w) // 2 :], rng)
    at = f.layout.offset("at")
    w[::3, at + 1] = w[::3, at]
    x = rng.standard_normal((columns, n)) * np.exp2(rng.integers(-12, 12, (columns, 1)))
    return w.reshape(ROWS, -1), x.astype(np.float32)


def compiled(name: str, mode: str = "exact") -> Any:
    """The product of blocks on a CPU, nothing repaired."""
    product = jax.jit(columns.product, static_argnums=(0, 1, 4, 5), compiler_options=jax_lane.CPU_OPTIONS)
    return lambda w, a: np.asarray(product(HIFI[name], hr.FORMATS["Q8_K"], w, a, mode, "cpu"))


def kernel(name: str, backend: str) -> Any:
    def product(w, a):
        weights = split.matrix(HIFI[name], w.reshape(len(w), -1, HIFI[name].type_size))
        activations = split.activations("Q8_K", a.reshape(len(a), -1, 292))
        return vec_dot.product(PLANS[name], weights, activations, backend)

    return jax.jit(product)


# THE CPU


def test_every_format_with_a_dot_product_has_a_plan():
    assert set(WITH_DOT) == set(PLANS) & set(HIFI) and len(WITH_DOT) == 14
    with pytest.raises(NotImplementedError, match="Q3_K_HIFI_RES8 has no dot"):
        hr.matmul("Q3_K_HIFI_RES8", np.zeros((1, 132), np.uint8), np.zeros((1, 256), np.float32))


@each_format
def test_exact_bits(name):
    w, x = hard_operands(name)
    expected = one_by_one(name, w, hr.encode("Q8_K", x))
    assert 0.1 < np.isfinite(expected).mean()
    assert same_floats(np.asarray(hr.matmul(name, jnp.asarray(w), jnp.asarray(x))), expected).all()


@pytest.mark.parametrize("name", ["Q4_K_HIFI", "Q4_HIFI"])
def test_exact_bits_of_one_column(name):
    w, x = hard_operands(name, columns=1)
    expected = one_by_one(name, w, hr.encode("Q8_K", x))
    assert same_floats(np.asarray(hr.matmul(name, jnp.asarray(w), jnp.asarray(x))), expected).all()


@pytest.mark.parametrize("name", [name for name in WITH_DOT if (GOLDEN / f"{name}.dot.json").exists()])
def test_golden_vectors(name):
    tests = [test for test in judge.all_tests(judge.load(name, "dot", GOLDEN)) if "rows" not in test]
    # Blocks of zeros behind a shorter row add zeros.
    w, a = (filled([judge.raw(test[key]) for test in tests]) for key in ("w", "a"))
    assert judge.agrees(np.diagonal(compiled(name)(w, a)).copy()[:, None], tests).all()


def filled(rows: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(rows), max(len(row) for row in rows)), np.uint8)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


@each_format
def test_fast_lies_within_the_bound(name):
    """Of the decoded weights: so with codes above 4 in size, and corrections in Q2_K_HIFI (docs/hifi.md)."""
    rng = np.random.default_rng(1)
    x = rng.standard_t(3, (ROWS, N)).astype(np.float32)
    w = hr.encode(name, x, np.ones(N, np.float32) if name == "Q2_K_HIFI" else None, lane="numpy")
    activations = (rng.uniform(0.1, 1, (COLUMNS, N)) * rng.choice([-1, 1], (COLUMNS, N))).astype(np.float32)
    a = hr.encode("Q8_K", activations)
    result = compiled(name, "fast")(w, a)
    for column, observed in zip(a, result, strict=True):
        assert hr.dot_exact(name, w, column).holds(observed).all()


def test_a_faint_scale_is_repaired():
    name = "Q6_K_HIFI_RES8"
    w, x = hard_operands(name)
    blocks = w.reshape(-1, HIFI[name].type_size)
    blocks[:, HIFI[name].layout.offset("scale") :] = np.array([1e-38], "<f4").view(np.uint8)
    expected = one_by_one(name, w, hr.encode("Q8_K", x))
    assert same_floats(np.asarray(hr.matmul(name, jnp.asarray(w), jnp.asarray(x))), expected).all()


# THE KERNEL


@each_format
def test_kernel_in_interpret_mode(name):
    w, x = hard_operands(name, 256 * 9 if PLANS[name].sums == "places" else N, columns=2)
    a = hr.encode("Q8_K", x)
    assert same_floats(np.asarray(kernel(name, "interpret")(w, a)), one_by_one(name, w, a)).all()


@pytest.mark.parametrize("name", ["Q3_K_HIFI", "Q6_K_HIFI_DYNAMIC", "Q6_K_HIFI_L", "Q4_K_LITE"])
def test_kernel_without_races(name, quick_compiler, capsys):
    """Four programs on two cores of the interpreter for TPUs, which also raises where one reads out of bounds."""
    assert canary.is_exact(name, "tpu interpret")
    assert "RACE DETECTED" not in capsys.readouterr().out


@each_format
def test_kernel_lowers_for_a_tpu(name):
    shapes = [jax.ShapeDtypeStruct(shape, np.uint8) for shape in ((8, HIFI[name].type_size), (1, 292))]
    device = AbstractDevice(device_kind="TPU v6 lite", num_cores=1, platform="tpu")
    with use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        exported = jax.export.export(kernel(name, "tpu"), platforms=["tpu"])(*shapes)
    assert "tpu_custom_call" in exported.mlir_module()
