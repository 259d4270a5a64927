"""What XLA makes of binary32 arithmetic, measured: the tables of docs/exact.md.

    python -m tools.compiler_facts

prints, for the jax that is installed and its first device, the share of results whose bits are not those of NumPy,
which rounds every operation once; then what comes of it in encoders. Half a minute, most of it compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.exact import arithmetic

N = 1 << 20
F = np.float32
bitcast = jax.lax.bitcast_convert_type


def share(function: Callable, *arguments: np.ndarray, expected: np.ndarray | None = None) -> float:
    """How many results of the compiled function have other bits than NumPy's."""
    expected = function(*arguments) if expected is None else expected
    found = np.asarray(jax.jit(function)(*arguments))
    return float((found.view(np.uint8) != expected.view(np.uint8)).reshape(found.size, -1).any(axis=1).mean())


def through_bits(x: jax.Array, zero: jax.Array | int) -> jax.Array:
    """x, its bits XORed with what should be zero."""
    return bitcast(bitcast(x, jnp.uint32) ^ zero, jnp.float32)


def products(n: int) -> Iterator[tuple[str, float]]:
    """a*b + c, and what may keep the product apart."""
    a, b, c = np.random.default_rng(0).standard_normal((3, n), dtype=F)
    expected = a * b + c

    def differ(product: Callable) -> float:
        return share(lambda a, b, c: product(a, b) + c, a, b, c, expected=expected)

    zero = jnp.uint32(0)
    given = jax.jit(lambda a, b, c, zero: through_bits(a * b, zero) + c)
    yield "a*b + c", differ(lambda a, b: a * b)
    yield "reduce_precision(a*b, 8, 23) + c", differ(lambda a, b: jax.lax.reduce_precision(a * b, 8, 23))
    yield "optimization_barrier(a*b) + c", differ(lambda a, b: jax.lax.optimization_barrier(a * b))
    yield "bits of a*b taken and given back, + c", differ(lambda a, b: through_bits(a * b, 0))
    yield "(a*b XOR z) + c, z = 0 an argument", float((np.asarray(given(a, b, c, zero)) != expected).mean())
    inside = jax.jit(lambda a, b, c: given(a, b, c, zero))
    yield "the same, called inside of another jit", float((np.asarray(inside(a, b, c)) != expected).mean())
    square = differ(lambda a, b: through_bits(a * b, bitcast(a, jnp.uint32) * bitcast(a, jnp.uint32) >> 1 & 1))
    yield "(a*b XOR z) + c, z = bit 1 of a square", square
    yield "exact.mul(a, b) + c", differ(exact.mul)


def others(n: int) -> Iterator[tuple[str, float]]:
    """Quotients, roots, sums, conversions and subnormal numbers."""
    a, b = np.random.default_rng(1).standard_normal((2, n), dtype=F)
    rows = a.reshape(-1, 1024)
    yield "a / b", share(lambda a, b: a / b, a, b)
    yield "a / 63", share(lambda a: a / F(63), a)
    yield "a / b[None, :]", share(lambda a, b: a / b[None], rows, b[:1024])
    yield "exact.div(a, 63)", share(lambda a: exact.div(a, F(63)), a)
    size = abs(a)
    yield "sqrt(a)", share(jnp.sqrt, size, expected=np.sqrt(size))
    yield "1 / sqrt(a)", share(lambda a: F(1) / jnp.sqrt(a), size, expected=F(1) / np.sqrt(size))
    for axis, shape in ((1, (-1, 16)), (0, (16, -1))):
        terms = a.reshape(shape)
        in_order = np.add.accumulate(terms, axis=axis).take(-1, axis=axis)
        yield f"sum of 16, axis {axis}", share(lambda x, axis=axis: x.sum(axis), terms, expected=in_order)
    yield "exact.sum_in_order", share(exact.sum_in_order, a.reshape(16, -1), expected=in_order)
    yield "binary32 to binary16", share(lambda a: a.astype(np.float16), a)
    faint = (size * F(2.0**-126))[size < 1]
    yield "x * 1.5, x below 2^-126", share(lambda x: x * F(1.5), faint)
    yield "x > 0, x below 2^-126", share(lambda x: x > 0, faint)


def encoders(rows: int) -> Iterator[tuple[str, float, float]]:
    """Blocks of gaussian weights that differ where nothing is sealed, and where a compiler of C fuses."""
    x = np.random.default_rng(2).standard_normal((rows, 512), dtype=F)
    for name in ("Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"):
        block = hr.FORMATS[name].type_size
        expected = hr.encode(name, x, lane="numpy").reshape(-1, block)
        hr.encode(name, x[:1], lane="jax")  # by now the back end has been probed, as it is
        with (
            mock.patch.object(arithmetic, "seal", lambda value, witness: value),
            mock.patch.object(arithmetic, "hidden_zero", lambda x: jnp.zeros(x.shape, np.uint32)),
        ):
            unsealed = np.asarray(jax.jit(lambda x, name=name: hr.encode(name, x, lane="jax"))(jnp.asarray(x)))
        fused = hr.encode(name, x, profile="clang-arm64")
        yield name, *(float((y.reshape(-1, block) != expected).any(axis=1).mean()) for y in (unsealed, fused))


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}\n\n| written | other bits |\n|---|---|")
    for written, wrong in (*products(N), *others(N)):
        print(f"| {written} | {wrong:.1%} |")
    print("\n| format | blocks that differ unsealed | as the arm64 release fuses |\n|---|---|---|")
    for name, unsealed, fused in encoders(2048):
        print(f"| {name} | {unsealed:.2%} | {fused:.2%} |")


if __name__ == "__main__":
    main()
