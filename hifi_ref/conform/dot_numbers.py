"""What a dot product multiplies and adds, taken apart: codes, scales, mins, activations, and the sums of these.

A row's result is the sum over blocks b, sub-blocks j and positions i of

    d[b] * da[b] * scale[b, j] * code[b, i] * q[b, i]    and, in formats with mins,    dmin[b] * min[b, j] * sum[b, j]

where q are the codes of the activations and sum[b, j] what is stored, or added up, of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.conform.cases import Case
from hifi_ref.conform.judge import Verdict
from hifi_ref.formats import FORMATS, iq1_m, iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_xs, k_scales, q2_k, q3_k
from hifi_ref.formats.layout import Layout
from hifi_ref.known_bugs.bug import decode, each_block, in_field
from hifi_ref.known_bugs.dot_terms import with_unit_scales

# Bytes of the field scales, of the others too where they are named so, that make all scales 1.
ONES = {
    "Q2_K": {"scales": [1]}, "Q6_K": {"scales": [1]}, "Q3_K": {"scales": [0x11] * 8 + [0xAA] * 4},
    "Q4_K": {"scales": [1] * 4 + [0] * 4 + [1] * 4}, "Q5_K": {"scales": [1] * 4 + [0] * 4 + [1] * 4},
    "IQ4_XS": {"scales_l": [0x11], "scales_h": [0xAA]}, "NVFP4": {"d": [0x40]},
}  # fmt: skip
# Relative to the sum of magnitudes, what binary32 sums of a row may be off.
ROUNDED = 2.0**-18
# Sums of magnitudes below it may have lost bits.
FAINT = 2.0**-90
# Of what is decoded without a scale, the unit of a code
UNITS = {"IQ2_XXS": 0.125, "IQ2_XS": 0.125, "IQ2_S": 0.125, "IQ3_XXS": 0.25}


@dataclass(frozen=True)
class Numbers:
    """Of the rows of one case, in binary64. A sub-block has as many positions as share all scales."""

    codes: np.ndarray  # [rows, blocks, positions]
    scales: np.ndarray  # [rows, blocks, sub-blocks]: those of the sub-blocks; 1 where there are none
    d: np.ndarray  # [rows, blocks]
    q: np.ndarray  # [blocks, positions]
    da: np.ndarray  # [blocks, sub-blocks]
    mins: np.ndarray | None  # [rows, blocks, sums]
    dmin: np.ndarray  # [rows, blocks], with the sign in which the share is added, and the unit
    sums: np.ndarray  # [blocks, sums]
    scaled: bool  # whether the sums hold the scale of the activations

    @property
    def outer(self) -> np.ndarray:
        """[rows, blocks, sub-blocks]: the scales of the block and of its activations."""
        return self.d[..., None] * self.da

    @property
    def factors(self) -> np.ndarray:
        """[rows, blocks, positions]: all that a product of codes is multiplied by."""
        return np.repeat(self.outer * self.scales, self.codes.shape[-1] // self.scales.shape[-1], axis=-1)

    @property
    def products(self) -> np.ndarray:
        return self.codes * self.q

    def share(self) -> np.ndarray:
        """[rows, blocks, sums]: what the mins add."""
        if self.mins is None:
            return np.zeros((*self.d.shape, 1))
        da = 1 if self.scaled else self.da[:, :1]
        return self.dmin[..., None] * self.mins * (da * self.sums)


class Answered(NamedTuple):
    """A case that the right numbers give: the values of its rows, and the sums of magnitudes."""

    numbers: Numbers
    observed: np.ndarray
    right: np.ndarray
    size: np.ndarray

    @property
    def off(self) -> np.ndarray:
        return self.observed - self.right


def case_of(name: str, verdict: Verdict) -> Answered | None:
    numbers = numbers_of(name, verdict.case)
    if numbers is None or not np.isfinite([*verdict.case.expected, *verdict.answer]).all():
        return None
    codes, share = numbers.factors * numbers.products, numbers.share()
    value = codes.sum(axis=(1, 2)) + share.sum(axis=(1, 2))
    size = abs(codes).sum(axis=(1, 2)) + abs(share).sum(axis=(1, 2))
    expected = verdict.case.expected.astype(np.float64)
    # Of numbers so small that products lose bits nothing is known
    if (abs(value - expected) > ROUNDED * size).any() or ((size > 0) & (size < FAINT)).any():
        return None
    return Answered(numbers, verdict.answer.astype(np.float64), expected, size)


def numbers_of(name: str, case: Case) -> Numbers | None:
    """None where a number is not finite, or the format has no such numbers."""
    with np.errstate(all="ignore"):
        found = _numbers(name, case.array("w").tobytes(), case.array("a").tobytes(), case.rows)
    parts = () if found is None else (found.codes, found.scales, found.d, found.da, found.dmin, found.sums)
    return found if found is not None and all(np.isfinite(part).all() for part in parts) else None


@functools.lru_cache(maxsize=64)
def _numbers(name: str, w: bytes, a: bytes, rows: int) -> Numbers | None:
    f = FORMATS[name]
    if f.dot_with not in ("Q8_0", "Q8_1", "Q8_K"):
        return None
    g = FORMATS[f.dot_with]
    blocks = np.frombuffer(w, np.uint8).reshape(-1, f.type_size)
    fields = fields_of(f.layout, blocks)
    others = fields_of(g.layout, np.frombuffer(a, np.uint8).reshape(-1, g.type_size))
    shape = rows, len(blocks) // rows
    scales, mins, d, dmin = scales_of(name, fields)
    plain = unscaled(name, blocks) / UNITS.get(name, 1.0)
    if name not in ONES:
        plain = plain / np.repeat(scales, f.block_size // scales.shape[1], axis=1)
    if name in ("IQ1_S", "IQ1_M"):
        assert mins is not None
        delta = mins / np.repeat(scales, mins.shape[1] // scales.shape[1], axis=1)
        plain = plain - 0.125 * np.repeat(delta, f.block_size // mins.shape[1], axis=1)
    q = others["qs"].astype(np.float64).reshape(shape[1], f.block_size)
    da = others["d"].astype(np.float64).reshape(shape[1], -1)
    subs = max(scales.shape[1], da.shape[1])
    count = 0 if mins is None else mins.shape[1]
    if name == "IQ1_M":
        sums = q.reshape(shape[1], 32, 8).sum(axis=-1)
    elif "bsums" in others:
        sums = others["bsums"].astype(np.float64).reshape(shape[1], 16)
    else:
        sums = others.get("s", da).astype(np.float64).reshape(shape[1], -1)
    if mins is not None:
        mins = np.repeat(mins, sums.shape[1] // count, axis=1).reshape(*shape, -1)
    return Numbers(
        np.rint(plain).reshape(*shape, -1), np.repeat(scales, subs // scales.shape[1], axis=1).reshape(*shape, -1),
        d.reshape(shape) * UNITS.get(name, 1.0), q, np.repeat(da, subs // da.shape[1], axis=1), mins,
        dmin.reshape(shape), sums, "s" in others,
    )  # fmt: skip


def fields_of(layout: Layout, blocks: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(part) for name, part in zip(layout.names, layout.unpack(blocks), strict=True)}


def _resized(pattern: np.ndarray, field: np.ndarray) -> np.ndarray:
    return np.resize(pattern, field.shape)


def unscaled(name: str, blocks: np.ndarray) -> np.ndarray:
    """f64[n, positions]: what is decoded with scales of 1 and mins of 0."""
    for field in ("m", "dmin"):
        if field in FORMATS[name].layout.names:
            blocks = each_block(name, in_field(name, field, lambda v: v * 0), blocks)
    for field, pattern in ONES.get(name, {}).items():
        ones = functools.partial(_resized, np.array(pattern, np.uint8))
        blocks = each_block(name, in_field(name, field, ones), blocks)
    if name == "IQ1_M":
        d = iq1_m.fields(*FORMATS[name].layout.unpack(blocks))[0].astype(np.float64)
        return decode(name, blocks).reshape(len(blocks), -1) / np.where(d == 0, 1, d)[:, None]
    if name != "NVFP4":
        blocks = with_unit_scales(name, blocks)
    return decode(name, blocks).reshape(len(blocks), -1).astype(np.float64)


def scales_of(name: str, fields: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Those of the sub-blocks, [n, many]; the mins, or None; d; and dmin, which is d where the mins have no other."""
    n = len(next(iter(fields.values())))
    d = fields.get("d", np.ones(n, np.float32))
    dmin, mins = d * 0, None
    if name in ("Q2_K", "Q4_K", "Q5_K"):
        scales, mins = (q2_k.unpack_scales if name == "Q2_K" else k_scales.unpack)(fields["scales"])
        dmin = -fields["dmin"]
    elif name in ("Q4_1", "Q5_1"):
        scales, mins, dmin = np.ones((n, 1)), np.ones((n, 1)), fields["m"]
    elif name == "NVFP4":
        scales, d, dmin = np.asarray(exact.widen_ue4m3_half(fields["d"])), np.ones(n), np.zeros(n)
    elif name == "MXFP4":
        scales, d = np.ones((n, 1)), np.asarray(exact.from_bits(exact.widen_e8m0_half(fields["e"])))
        dmin = d * 0
    elif name in _SUB_SCALES:
        scales, shift, d = _SUB_SCALES[name](fields)
        if shift is not None:
            shift = np.asarray(shift).reshape(n, -1).astype(np.float64)
            mins, dmin = shift * np.repeat(scales, shift.shape[1] // scales.shape[1], axis=1), 0.125 * d
    else:
        scales = np.ones((n, 1))
    mins = None if mins is None else np.asarray(mins).astype(np.float64)
    return np.asarray(scales).astype(np.float64), mins, np.asarray(d, np.float64), np.asarray(dmin, np.float64)


def _of_grid(fields_of: Callable, *names: str) -> Callable:
    """The scales are the last of what a format's ``fields`` gives."""
    return lambda fields: (fields_of(*(fields[name] for name in names))[-1], None, fields["d"])


def _iq1_s(fields: dict[str, np.ndarray]) -> tuple:
    _, scales, shift = iq1_s.fields(fields["qs"], fields["qh"])
    return scales, shift, fields["d"]


def _iq1_m(fields: dict[str, np.ndarray]) -> tuple:
    d, _, scales, shift = iq1_m.fields(fields["qs"], fields["qh"], fields["scales"])
    return scales, shift, d


_SUB_SCALES: dict[str, Callable] = {
    "Q3_K": lambda fields: (q3_k.unpack_scales(fields["scales"]), None, fields["d"]),
    "Q6_K": lambda fields: (fields["scales"], None, fields["d"]),
    "IQ4_XS": lambda fields: (iq4_xs.unpack_scales(fields["scales_h"], fields["scales_l"]), None, fields["d"]),
    "IQ2_XXS": _of_grid(iq2_xxs.fields, "qs"),
    "IQ2_XS": _of_grid(iq2_xs.fields, "qs", "scales"),
    "IQ2_S": _of_grid(iq2_s.fields, "qs", "qh", "scales"),
    "IQ3_XXS": _of_grid(iq3_xxs.fields, "qs"),
    "IQ3_S": _of_grid(iq3_s.fields, "qs", "qh", "signs", "scales"),
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
}
