"""The operands of a product, their fields apart, in groups, what belongs to one row or column last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hifi_ref import exact
from hifi_ref.formats import FORMATS, Format
from hifi_ref.formats.hifi.transcode import base_of
from hifi_ref.kernels.plans import PLANS
from hifi_ref.kernels.structures import GROUP, Activations, Slots, Weights

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from hifi_ref.exact import Array


def matrix(f: Format, w: UInt8[Array, "rows blocks bytes"]) -> Weights:
    """A matrix; the last group is filled with blocks of zeros."""
    plan = PLANS[f.name]
    if plan.slots is not None:
        base = FORMATS[base_of(f.name).LAYOUT.name]
        kept = plan.slots(*f.layout.unpack(w)[len(base.layout.fields) :])
        rows: list[Any] = [None if x is None else _rows_last(x, w.shape[1]) for x in kept]
        return matrix(base, w[..., : base.type_size])._replace(slots=Slots(*rows))
    fields = plan.fields(*f.layout.unpack(_filled(w, f.block_size)))
    groups = w.shape[1] * f.block_size // GROUP + (w.shape[1] * f.block_size % GROUP > 0)
    codes = tuple(_rows_last(c, groups) for c in fields.codes)
    others: list[Any] = [None if x is None else _rows_last(x, groups) for x in fields[1:]]
    return Weights(codes, *others)


def activations(name: str, a: UInt8[Array, "batch blocks bytes"]) -> Activations:
    """Blocks of Q8_0, Q8_1 or Q8_K, in the same groups."""
    f = FORMATS[name]
    a = _filled(a, f.block_size)
    groups = a.shape[1] * f.block_size // GROUP
    names = [field.name for field in f.layout.fields]
    fields = dict(zip(names, (_rows_last(x, groups) for x in f.layout.unpack(a)), strict=True))
    q = fields["qs"].reshape(groups, 8, 32, len(a))
    return Activations(q, fields["d"], fields.get("s"), fields.get("bsums"))


def _filled(blocks: Array, block_size: int) -> Array:
    missing = -blocks.shape[1] % (GROUP // block_size)
    return exact.library(blocks).pad(blocks, [(0, 0), (0, missing), (0, 0)]) if missing else blocks


def _rows_last(x: Array, groups: int) -> Array:
    """[rows, blocks, ...] -> [groups, everything of a group, rows]."""
    lib = exact.library(x)
    turned = x.reshape(x.shape[0], -1).T
    turned = turned if exact.is_jax(x) else lib.ascontiguousarray(turned)
    return turned.reshape(groups, -1, x.shape[0])
