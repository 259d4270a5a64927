"""Whether a back end of jax computes as IEEE-754 asks, found out by a probe of every operation the formats rely on.

The first use of a back end compiles the probe and compares bits with NumPy. Where division or square root fail, they
are done in whole numbers from then on, if the probe then passes (`python -m hifi_ref.ground` prints what came of it). A
back end that still fails is not used: lane="auto" says so once and takes the NumPy lane, lane="jax" raises.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hifi_ref import exact


def _probe(a: jax.Array, b: jax.Array, c: jax.Array) -> dict[str, Any]:
    """What the formats do, in the shapes that tempt a compiler."""
    first = b[:, :1]
    product = exact.mul(a, b)
    return {
        "multiply-add": (exact.madd(a, b, c), exact.madd(first, a, c)),
        "division": (exact.div(a, b), exact.div(a, first), exact.div(a, np.float32(63)), exact.div(exact.div(a, b), c)),
        "square root": (exact.sqrt(abs(a)), exact.div(np.float32(1), exact.sqrt(abs(a)))),
        "ordered sums": (
            exact.sum_in_order(product),
            exact.running_sums(64, lambda i: (exact.mul(a[i], b[i]), exact.mul(b[i], c[i]), exact.mul(a[i], c[i]))),
        ),
        "binary64 sums": exact.float_dot(a, b[0]),
        "rounding": (
            exact.nearest_int(product),
            exact.round_half_away(product),
            exact.i32(exact.rounded_code(exact.sealed_by(a)(a, b), -32, 31)),
        ),
        "conversion": (exact.narrow_f16(product), exact.round_f16(c), exact.narrow_bf16(a)),
        "integers": (exact.is_comfortable(a), exact.mul_int(a * np.float32(2.0**-10), exact.nearest_int(b))),
    }


OPERATIONS = (
    "multiply-add", "division", "square root", "ordered sums", "binary64 sums", "rounding", "conversion", "integers",
)  # fmt: skip


@functools.cache
def corrections(platform: str) -> frozenset[str]:
    """The operations that a back end gets wrong and that are therefore done in whole numbers on it."""
    return frozenset(_wrong(platform, frozenset())) & {"division", "square root"}


@functools.cache
def failures(platform: str) -> tuple[str, ...]:
    """The operations that a back end gets wrong even so, by their names in the probe; empty if it is exact."""
    return _wrong(platform, corrections(platform))


@functools.cache
def _wrong(platform: str, by_hand: frozenset[str]) -> tuple[str, ...]:
    rng = np.random.default_rng(1)
    a, b, c = (rng.standard_normal((64, 256)).astype(np.float32) * np.float32(100) for _ in range(3))
    with np.errstate(all="ignore"):
        expected = _probe(a, b, c)
    with jax.ensure_compile_time_eval():
        device = jax.local_devices(backend=platform)[0]
        probe = jax.jit(tracing(_probe, by_hand))
        observed = jax.device_get(probe(*jax.device_put((a, b, c), device)))

    def same(operation: str) -> bool:
        pairs = zip(jax.tree.leaves(expected[operation]), jax.tree.leaves(observed[operation]), strict=True)
        return all(np.asarray(e).tobytes() == np.asarray(o).tobytes() for e, o in pairs)

    return tuple(operation for operation in expected if not same(operation))


def tracing(work: Callable[..., Any], by_hand: frozenset[str]) -> Callable[..., Any]:
    """work, which does some operations in whole numbers while it is traced."""

    def run(*operands: Any) -> Any:
        with exact.by_hand(by_hand):
            return work(*operands)

    return run


def platform_of(x: Any) -> str:
    if exact.is_jax(x) and not exact.is_traced(x):
        return next(iter(x.devices())).platform
    return jax.default_backend()


@functools.cache
def _warn_once(platform: str) -> None:
    warnings.warn(
        f"the {platform} back end of jax does not compute as IEEE-754 asks ({', '.join(failures(platform))}), "
        "so hifi_ref uses NumPy there",
        RuntimeWarning,
        stacklevel=5,
    )


def is_exact_or_warn(x: Any) -> bool:
    """Whether the back end that holds x passes the canary; a RuntimeWarning, once, where it does not."""
    platform = platform_of(x)
    if failures(platform):
        _warn_once(platform)
    return not failures(platform)


def require_exact(x: Any) -> str:
    platform = platform_of(x)
    if failures(platform):
        raise RuntimeError(
            f"the {platform} back end of jax does not compute as IEEE-754 asks ({', '.join(failures(platform))}): "
            'results would not be exact; use lane="numpy"'
        )
    return platform
