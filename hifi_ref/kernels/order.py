"""From whole sums to float32, one group after the other, in the order of additions that each format defines.

A function takes the running total, the floats of the matrix and of the activations, the whole sums of the group, and
``mul``, a product that the compiler cannot fuse. Every argument is a sequence over the runs (or one element for all),
whose elements broadcast: [1, rows] of the matrix, [batch, 1] of the activations, [batch, rows] of the sums. A kernel
and a compiled loop on a CPU share this text.

The total begins at +0 and so never is -0: a run of zeros that fills a group adds nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hifi_ref.exact import f32


class Floats(NamedTuple):
    """What multiplies the sums. Each is a sequence, or None."""

    d: Any
    m: Any = None
    """Of the matrix: min, or scale of the mins. Of the activations: d times the sum of the codes."""
    scales: Any = None
    """Sub-block scales as floats, where the format multiplies them as such."""


class Sums(NamedTuple):
    """Whole sums of a group, int32 or exact float32, a sequence; and the sum that the mins or shifts take."""

    parts: Any
    share: Any = None


def _for(values, i, count):
    """The element that serves part i of count."""
    return values[i * len(values) // count]


def scales_first(total, w, a, sums, mul):
    """(d d_a) * sum"""
    count = len(sums.parts)
    for i in range(count):
        total = total + mul(mul(_for(w.d, i, count), _for(a.d, i, count)), f32(sums.parts[i]))
    return total


def weights_first(total, w, a, sums, mul):
    """(d * sum) * d_a"""
    for i, part in enumerate(sums.parts):
        total = total + mul(mul(w.d[i], f32(part)), a.d[i])
    return total


def with_min(total, w, a, sums, mul):
    """(d d_a) * sum + m * s"""
    for i, part in enumerate(sums.parts):
        total = total + (mul(f32(part), mul(w.d[i], a.d[i])) + mul(w.m[i], a.m[i]))
    return total


def sub_scales(total, w, a, sums, mul):
    """((d d_a) * scale) * sum"""
    dd = mul(w.d[0], a.d[0])
    for i, part in enumerate(sums.parts):
        total = total + mul(mul(dd, w.scales[i]), f32(part))
    return total


def activations_inside(total, w, a, sums, mul):
    """d * (sum d_a + sum d_a + ...), over the runs of a block"""
    runs = len(sums.parts) // len(w.d)
    for block, d in enumerate(w.d):
        first = block * runs
        inner = mul(f32(sums.parts[first]), a.d[first])
        for i in range(first + 1, first + runs):
            inner = inner + mul(f32(sums.parts[i]), a.d[i])
        total = total + mul(d, inner)
    return total


def minus_share(total, w, a, sums, mul):
    """(d d_a) * sum - (dmin d_a) * share"""
    (part,) = sums.parts
    return total + (mul(mul(w.d[0], a.d[0]), f32(part)) - mul(mul(w.m[0], a.d[0]), f32(sums.share)))


def shifted(total, w, a, sums, mul):
    """(d d_a) * ((8 sum + shifts) / 8)"""
    (part,) = sums.parts
    whole = f32(8 * part + sums.share) * np.float32(0.125)
    return total + mul(mul(w.d[0], a.d[0]), whole)


def eighth_of_sum(total, w, a, sums, mul):
    """(d d_a) * (sum / 8)"""
    (part,) = sums.parts
    return total + mul(mul(w.d[0], a.d[0]), f32(part) * np.float32(0.125))
