"""Whether a back end of jax computes as IEEE-754 asks, found out by a probe of every operation the formats rely on.

The first use of a back end compiles the probe and compares bits with NumPy. What it gets wrong is taken from it, where
that can be: division, square root and binary16 are then done in whole numbers, and what needs binary64 by NumPy, which
is called back (`python -m hifi_ref.ground` prints what came of it). A back end that still fails is not used:
lane="auto" says so once and takes the NumPy lane, lane="jax" raises.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import numpy as np

from hifi_ref import exact
from hifi_ref.formats.hifi import importance
from hifi_ref.lanes import executables

Probe = dict[str, Callable[[Any, Any, Any], Any]]


# THE PROBE: what the formats do, in the shapes that tempt a compiler


def _ordered_sums(a, b, c):
    product = exact.mul(a, b)
    return (
        exact.sum_in_order(product),
        exact.running_sums(64, lambda i: (exact.mul(a[i], b[i]), exact.mul(b[i], c[i]), exact.mul(a[i], c[i]))),
    )


def _rounding(a, b, c):
    product = exact.mul(a, b)
    return (
        exact.nearest_int(product),
        exact.round_half_away(product),
        exact.i32(exact.rounded_code(exact.sealed_by(a)[1](a, b), -32, 31)),
    )


def _conversion(a, b, c):
    """All of binary16 but its NaNs; what lies at the middle of two of its numbers, and beside it; overflow."""
    lib = exact.library(a)
    hidden = exact.hidden_zero(a)
    number = np.arange(1 << 16, dtype=np.uint32).reshape(4, *a.shape)
    half = number ^ hidden
    half = lib.where(half & np.uint32(0x7FFF) > np.uint32(0x7C00), np.uint32(0), half).astype(np.uint16)
    wide = exact.widen_f16(half)
    beside = [exact.from_bits(exact.bits(wide) + np.uint32(more)) for more in (0, 0x0FFF, 0x1000, 0x1001)]
    faint = exact.f32(exact.i32(number[0] ^ hidden)) * np.float32(2.0**-26)
    beside += [exact.from_bits(exact.bits(faint) + np.uint32(more)) for more in (0, 1)]
    return (wide, *map(exact.narrow_f16, beside), exact.round_f16(exact.mul(a, b)), exact.narrow_bf16(a))


def _integers(a, b, c):
    """And bits that travel as floats, most of them subnormal ones: nearest_row carries numbers of rows so."""
    lib = exact.library(a)
    code = exact.from_bits(np.arange(a.size, dtype=np.uint32).reshape(a.shape) ^ exact.hidden_zero(a))

    def nearer(i, best):
        least, found = exact.unpair(best)
        return exact.pair(lib.where(b[i] < least, b[i], least), lib.where(b[i] < least, code[i], found))

    found = exact.fold(len(a), nearer, exact.pair(a[0], code[0]))
    carried = exact.unpair(exact.wall(found))[1]
    return (
        exact.mul_int(a * np.float32(2.0**-10), exact.nearest_int(b)),
        exact.bits(carried),
        exact.bits(exact.rows(exact.columns(code, 256))),
    )


def _watch(a, b, c):
    """Marks of products and quotients on both sides of where these become faint, down to what is flushed."""
    found = []
    for less in (2.0**-60, 2.0**-70, 2.0**-85):
        x, y = a * np.float32(less), b * np.float32(2.0**-58)
        with exact.watching() as marks:
            product, quotient = exact.mul(x, y), exact.div(x, np.float32(1) / (np.float32(2.0**-58) + abs(y)))
        if not marks:
            marks = [exact.library(result).abs(result) < exact.FAINT for result in (product, quotient)]
        found += [exact.i32(mark) for mark in marks]
    return tuple(found)


PROBE: Probe = {
    "multiply-add": lambda a, b, c: (exact.madd(a, b, c), exact.madd(b[:, :1], a, c)),
    "division": lambda a, b, c: (
        exact.div(a, b), exact.div(a, b[:, :1]), exact.div(a, np.float32(63)), exact.div(exact.div(a, b), c)
    ),
    "square root": lambda a, b, c: (exact.sqrt(abs(a)), exact.div(np.float32(1), exact.sqrt(abs(a)))),
    "ordered sums": _ordered_sums,
    "binary64 sums": lambda a, b, c: (exact.float_dot(a, b[0]), importance.of_block(abs(a))),
    "rounding": _rounding,
    "conversion": _conversion,
    "integers": _integers,
    "watch": _watch,
}  # fmt: skip
OPERATIONS = tuple(PROBE)
# What can be taken from a back end that gets it wrong.
CORRECTABLE = frozenset({"division", "square root", "conversion", "binary64 sums"})


def _probe(a: Any, b: Any, c: Any) -> dict[str, Any]:
    return {operation: work(a, b, c) for operation, work in PROBE.items()}


# VERDICTS


@functools.cache
def corrections(platform: str) -> frozenset[str]:
    """The operations that a back end gets wrong and that are therefore not left to it."""
    return frozenset(_wrong(platform, frozenset())) & CORRECTABLE


@functools.cache
def failures(platform: str) -> tuple[str, ...]:
    """The operations that a back end gets wrong even so, by their names in the probe; empty if it is exact."""
    return _wrong(platform, corrections(platform))


@functools.cache
def _wrong(platform: str, by_hand: frozenset[str]) -> tuple[str, ...]:
    rng = np.random.default_rng(1)
    operands = tuple(rng.standard_normal((64, 256)).astype(np.float32) * np.float32(100) for _ in range(3))
    with np.errstate(all="ignore"):
        expected = _probe(*operands)
    try:
        observed = _observed(_probe, platform, by_hand, operands)
    except jax.errors.JaxRuntimeError:
        # It refuses to compile one of them: which?
        observed = {operation: _alone(work, platform, by_hand, operands) for operation, work in PROBE.items()}

    def same(operation: str) -> bool:
        e, o = (jax.tree.leaves(side[operation]) for side in (expected, observed))
        return [np.asarray(leaf).tobytes() for leaf in e] == [np.asarray(leaf).tobytes() for leaf in o]

    return tuple(operation for operation in expected if not same(operation))


def _observed(work: Callable[..., Any], platform: str, by_hand: frozenset[str], operands: tuple[Any, ...]) -> Any:
    with jax.ensure_compile_time_eval():
        device = jax.local_devices(backend=platform)[0]
        run: Any = jax.jit(tracing(work, by_hand, platform))
        if work is _probe and platform == "cpu" and not by_hand:
            run = executables.loaded(run, ("canary",), *operands)
        return jax.device_get(run(*jax.device_put(operands, device)))


def _alone(work: Callable[..., Any], platform: str, by_hand: frozenset[str], operands: tuple[Any, ...]) -> Any:
    """One operation's results; none where the back end refuses it."""
    try:
        return _observed(work, platform, by_hand, operands)
    except jax.errors.JaxRuntimeError:
        return ()


def tracing(work: Callable[..., Any], by_hand: frozenset[str], platform: str | None = None) -> Callable[..., Any]:
    """work, which leaves some operations to no back end while it is traced, for that platform or the default one."""

    def run(*operands: Any) -> Any:
        with exact.by_hand(by_hand), exact.made_for(platform):
            return work(*operands)

    return run


# WHERE AN ARRAY IS


def platform_of(x: Any) -> str:
    if exact.is_jax(x) and not exact.is_traced(x):
        return next(iter(x.devices())).platform
    return jax.default_backend()


def platforms_of(x: Any) -> tuple[str, ...]:
    """Where work on x runs: what jax is tracing can be meant for any back end that is here."""
    if not exact.is_traced(x):
        return (platform_of(x),)
    return tuple(sorted({client.local_devices()[0].platform for client in jax.extend.backend.backends().values()}))


def tracing_anywhere(work: Callable[..., Any], x: Any) -> Callable[..., Any]:
    """work for a caller's computation on x: whatever one of platforms_of(x) gets wrong is left to none of them."""
    return tracing(work, frozenset().union(*map(corrections, platforms_of(x))))


@functools.cache
def _warn_once(platform: str) -> None:
    warnings.warn(
        f"the {platform} back end of jax does not compute as IEEE-754 asks ({', '.join(failures(platform))}), "
        "so hifi_ref uses NumPy there",
        RuntimeWarning,
        stacklevel=5,
    )


def is_exact_or_warn(platform: str) -> bool:
    """Whether a back end passes the canary; a RuntimeWarning, once, where it does not."""
    if failures(platform):
        _warn_once(platform)
    return not failures(platform)


def require_exact(x: Any) -> str:
    """The back end that holds x. RuntimeError where it, or one that a caller's computation may run on, is not exact."""
    for platform in platforms_of(x):
        if failures(platform):
            raise RuntimeError(
                f"the {platform} back end of jax does not compute as IEEE-754 asks ({', '.join(failures(platform))}): "
                'results would not be exact; use lane="numpy"'
            )
    return platform_of(x)
