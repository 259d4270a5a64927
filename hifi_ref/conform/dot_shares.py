"""What the mins of a dot product add, or the shifts of a grid, gone wrong: other sums, other mins, other scales."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.conform.dot_numbers import Numbers
from hifi_ref.conform.dot_sums import NARROW, carried
from hifi_ref.conform.dot_way import Way, powers, sums_of
from hifi_ref.known_bugs.derived.orders import orders

# What the mins add by mistake; None where a case cannot tell
Share = Callable[[Numbers], np.ndarray | None]


def of_mins(k: Numbers) -> Iterator[Way]:
    if k.mins is None:
        return
    count = k.sums.shape[-1]
    for kind, says, share in (*_others(count), *_of_rows(), *_scales(k), *_running(count), *_narrow(k, count)):
        yield Way(kind, says, functools.partial(_added, share=share))


def _added(k: Numbers, share: Share) -> np.ndarray | None:
    other = share(k)
    return None if other is None else other - k.share()


def _mins(k: Numbers) -> np.ndarray:
    assert k.mins is not None
    return k.mins


def _scale(k: Numbers) -> np.ndarray:
    """Of the activations, [blocks, 1]: 1 where the sums hold it."""
    return np.ones((len(k.q), 1)) if k.scaled else k.da[:, :1]


def _share(k: Numbers, mins: np.ndarray | None = None, sums: np.ndarray | None = None) -> np.ndarray:
    mins, sums = _mins(k) if mins is None else mins, k.sums if sums is None else sums
    return k.dmin[..., None] * _scale(k) * mins * sums


def _others(count: int) -> Iterator[tuple[str, str, Share]]:
    for order in orders(count).values() if count > 1 else ():
        yield (
            "activation sums",
            f"Takes the sums of activations {order.says}",
            functools.partial(lambda k, at: _share(k, sums=k.sums[:, at]), at=order.taken),
        )
        yield (
            "mins",
            f"Takes the mins {order.says}",
            functools.partial(lambda k, at: _share(k, _mins(k)[..., at]), at=order.taken),
        )


def _of_rows() -> Iterator[tuple[str, str, Share]]:
    """Of another block of the row."""
    for which in ("row's first block", "block before", "next block"):
        for what in ("sums of activations", "scale of the mins", "mins", "scale of the activations for the mins"):
            yield "mins", f"Takes the {what} of the {which}", functools.partial(_of_row, which=which, what=what)


def _of_row(k: Numbers, which: str, what: str) -> np.ndarray | None:
    at = np.arange(len(k.q))
    source = {"row's first block": at * 0, "block before": at - 1, "next block": at + 1}[which]
    if source.min() < 0 or source.max() >= len(at):
        return None
    if what == "sums of activations":
        return _share(k, sums=k.sums[source])
    if what == "mins":
        return _share(k, _mins(k)[:, source])
    if what == "scale of the activations for the mins":
        return k.dmin[..., None] * _scale(k)[source] * _mins(k) * k.sums
    return k.dmin[:, source][..., None] * _scale(k) * _mins(k) * k.sums


def _scales(k: Numbers) -> Iterator[tuple[str, str, Share]]:
    """Factors left out, doubled, or of the codes. In K formats mins are subtracted."""
    count, sign = k.sums.shape[-1], 1 if k.scaled else -1
    yield (
        "mins",
        "Multiplies the mins by the scale of the codes, not by their own",
        lambda k: sign * k.d[..., None] * _scale(k) * _mins(k) * k.sums,
    )
    yield "mins", "Leaves out the scale of the mins", lambda k: sign * _scale(k) * _mins(k) * k.sums
    yield "mins", "Multiplies the mins by their scale twice", lambda k: _share(k) * k.dmin[..., None]
    yield "mins", "Multiplies the mins by the scale of the codes as well", lambda k: _share(k) * k.d[..., None]
    yield (
        "activation sums",
        "Multiplies the share of the mins by the scale of the activations once more",
        lambda k: _share(k) * k.da[:, :1],
    )
    if not k.scaled:
        yield (
            "activation sums",
            "Leaves out the scale of the activations in the share of the mins",
            lambda k: k.dmin[..., None] * _mins(k) * k.sums,
        )
    if k.scales.shape[-1] > 1:
        yield (
            "mins",
            "Multiplies the mins by the scales of the sub-blocks as well",
            lambda k: _share(k, _mins(k) * _fitting(k.scales, count)),
        )
        yield (
            "mins",
            "Takes the scales of the sub-blocks for their mins",
            lambda k: _share(k, _fitting(k.scales, count)),
        )


def _fitting(scales: np.ndarray, count: int) -> np.ndarray:
    """Scales of sub-blocks, one for each sum."""
    many = scales.shape[-1]
    return np.repeat(scales, count // many, axis=-1) if count >= many else scales[..., :: many // count]


def _running(count: int) -> Iterator[tuple[str, str, Share]]:
    for parent in [*powers(2, count), 0]:
        within = f"within each {parent}" if parent else "through all blocks of a row"
        yield "carried over", f"Does not begin anew: the sum of the mins' share is carried on, {within}", (
            functools.partial(
                lambda k, n: k.dmin[..., None] * _scale(k) * carried(_mins(k) * k.sums, n), n=parent
            )
        )  # fmt: skip
        yield (
            "carried over",
            f"Does not begin anew: sums of activations are carried on to the next, {within}",
            (functools.partial(lambda k, n: _share(k, sums=carried(k.sums[None], n)[0]), n=parent)),
        )


def _narrow(k: Numbers, count: int) -> Iterator[tuple[str, str, Share]]:
    if k.scaled:
        return
    for says, of in NARROW.items():
        yield (
            "integer overflow",
            f"Keeps sums of activations in {says}",
            functools.partial(lambda k, of: _share(k, sums=of(k.sums)), of=of),
        )
        for run in powers(1, count):
            what = f"sums of {run} products of mins" if run > 1 else "products of mins"
            yield "integer overflow", f"Keeps {what} in {says}", functools.partial(_kept, of=of, run=run)


def _kept(k: Numbers, of: Callable[[np.ndarray], np.ndarray], run: int) -> np.ndarray:
    sums = of(sums_of(_mins(k) * k.sums, run)) / run
    return k.dmin[..., None] * _scale(k) * np.repeat(sums, run, axis=-1)
