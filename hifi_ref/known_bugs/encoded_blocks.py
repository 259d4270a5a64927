"""Bugs of encoding that many formats share, and those of super-blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32
from hifi_ref.formats import FORMATS, LLAMA_CPP, iq3_s, k_scales, super_block
from hifi_ref.formats.packing import gather
from hifi_ref.known_bugs.bug import Bug, bug, each_block, encode, in_field
from hifi_ref.known_bugs.rounding import NO_IMPORTANCE, Rounding, by_block, half_away, towards_zero

# WHAT MANY SHARE


def _largest_f16(v: np.ndarray) -> np.ndarray:
    """f16 bytes: the largest finite number for an infinity."""
    infinite = (v[..., 1:] & 0x7F == 0x7C) & (v[..., :1] == 0)
    return np.where(infinite, v - np.array([1, 1], np.uint8), v)


def _saturated(name: str, fields: list[str]) -> Callable:
    changes = [in_field(name, field, _largest_f16) for field in fields]

    def change(blocks: np.ndarray) -> np.ndarray:
        for one in changes:
            blocks = one(blocks)
        return blocks

    return lambda x, weights: each_block(name, change, encode(name, x, weights))


def _without_importance(name: str) -> Callable:
    ones = FORMATS[name].requires_weights

    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return encode(name, x, np.ones_like(x[0]) if ones else None)

    return run


def _importance_by_block(name: str) -> Callable:
    """Each block as a row of its own."""
    n = FORMATS[name].block_size

    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        if weights is None:
            return encode(name, x, None)
        parts = [encode(name, x[:, i : i + n].copy(), weights[i : i + n]) for i in range(0, x.shape[1], n)]
        return np.concatenate(parts, axis=1)

    return run


def _flushed_input(name: str) -> Callable:
    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return encode(name, np.where(abs(x) < exact.SMALLEST_NORMAL, np.copysign(np.float32(0), x), x), weights)

    return run


def _shared_bugs() -> Iterator[Bug]:
    for name, f in LLAMA_CPP.items():
        halves = [field.name for field in f.layout.fields if field.dtype == "f16"]
        # The codebook formats' encoders end the process, or find no scale, before it can overflow.
        if halves and not name.startswith(("IQ1", "IQ2", "IQ3")):
            says = "Stores the largest f16 where the scale overflows, not infinity."
            yield bug("f16 conversion", name, "encode", "overflow to the largest f16", says, _saturated(name, halves))
    for name in LLAMA_CPP:
        if name not in NO_IMPORTANCE:
            yield bug(
                "importance", name, "encode", "no importance", "Leaves the importance out.", _without_importance(name)
            )
    for name in LLAMA_CPP:
        if LLAMA_CPP[name].row_scoped:
            says = "Takes the mean square of a block for that of the row."
            yield bug("importance", name, "encode", "importance by block", says, _importance_by_block(name))
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q8_K", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4"):
        says = "Takes subnormal weights for zero."
        yield bug("flush to zero", name, "encode", "subnormal weights lost", says, _flushed_input(name))


# SUPER-BLOCKS


def _fit_with_mins(name: str, trials: tuple[float, float, int]) -> Callable:
    sub, top = (32, 15) if name == "Q4_K" else (32, 31)
    fields = FORMATS[name].layout

    def blocks(x: np.ndarray) -> np.ndarray:
        fit = super_block.fit_with_mins(x[None], None, sub, top, 63, k_scales.pack_capped, k_scales.unpack, trials)
        qs = gather((fit.codes[0] & 15).reshape(-1, 4, 2, 32), 4).reshape(-1, 128)
        high = {"qh": gather(fit.codes[0] >> 4, 1)} if name == "Q5_K" else {}
        return fields.pack(d=fit.d[0], dmin=fit.dmin[0], scales=fit.scales[0], qs=qs, **high)

    return by_block(name, blocks)


def _codes_again(name: str, rounding: Rounding) -> Callable:
    """The right scales, and the codes rounded anew in another way; Q4_K and Q6_K."""
    layout = FORMATS[name].layout

    def q4_k(x: np.ndarray, block: np.ndarray) -> np.ndarray:
        d, dmin, packed, qs = layout.unpack(block)
        scales, mins = k_scales.unpack(packed)
        scale, minimum = (d[:, None] * f32(scales))[..., None], (dmin[:, None] * f32(mins))[..., None]
        quotient = div(x.reshape(-1, 8, 32) + minimum, np.where(scale != 0, scale, np.float32(1)))
        codes = np.clip(rounding(quotient), 0, 15).reshape(-1, 4, 2, 32)
        old = np.stack([qs.reshape(-1, 4, 32) & 15, qs.reshape(-1, 4, 32) >> 4], axis=2)
        codes = np.where((scale != 0).reshape(-1, 4, 2, 1), codes, old)
        return layout.pack(d=d, dmin=dmin, scales=packed, qs=gather(codes, 4).reshape(-1, 128))

    def q6_k(x: np.ndarray, block: np.ndarray) -> np.ndarray:
        ql, qh, scales, d = layout.unpack(block)
        scale = (d[:, None] * f32(scales))[..., None]
        quotient = div(x.reshape(-1, 16, 16), np.where(scale != 0, scale, np.float32(1)))
        codes = (np.clip(rounding(quotient), -32, 31) + 32).reshape(-1, 2, 4, 32)
        new_ql = gather((codes & 15).reshape(-1, 2, 2, 64), 4).reshape(-1, 128)
        new_qh = gather(codes >> 4, 2).reshape(-1, 64)
        all_there = (scales != 0).all(axis=-1)[:, None]
        ql, qh = np.where(all_there, new_ql, ql), np.where(all_there, new_qh, qh)
        return layout.pack(ql=ql, qh=qh, scales=scales, d=d)

    again = {"Q4_K": q4_k, "Q6_K": q6_k}[name]

    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        blocks = encode(name, x, weights).reshape(-1, FORMATS[name].type_size)
        finite = (abs(layout.unpack(blocks)[0 if name == "Q4_K" else 3]) < np.inf)[:, None]
        with np.errstate(all="ignore"):
            return np.where(finite, again(x.reshape(-1, 256), blocks), blocks).reshape(len(x), -1)

    return run


def _iq3_s_in_place(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Row numbers and signs of each sub-block at its own place, as if the release stepped over sub-blocks of zeros."""
    layout = iq3_s.LAYOUT
    rows = encode("IQ3_S", x, weights)
    d, qs, qh, signs, scales = layout.unpack(rows.reshape(-1, layout.type_size))
    empty = (x.reshape(-1, 8, 32) == 0).all(axis=-1)
    place = np.argsort(np.argsort(empty, axis=-1, kind="stable"), axis=-1)[..., None]
    qs = np.take_along_axis(qs.reshape(-1, 8, 8), place, axis=1).reshape(-1, 64)
    signs = np.take_along_axis(signs.reshape(-1, 8, 4), place, axis=1).reshape(-1, 32)
    return layout.pack(d=d, qs=qs, qh=qh, signs=signs, scales=scales).reshape(rows.shape)


def _k_bugs() -> Iterator[Bug]:
    for name, trials in (("Q4_K", (-0.5, 0.1, 15)), ("Q5_K", (-1.0, 0.1, 20))):
        says = "Tries the scales of the search that another K format has."
        yield bug("scale", name, "encode", "another search", says, _fit_with_mins(name, trials))
        says = "Takes the first scale instead of searching for a better one."
        yield bug("scale", name, "encode", "no search", says, _fit_with_mins(name, (0.0, 0.0, 0)))
    for name in ("Q4_K", "Q6_K"):
        for title, says, rounding in (
            ("half away from zero", "Rounds the last codes half away from zero, not to even.", half_away),
            ("towards zero", "Cuts the last codes off.", towards_zero),
        ):
            yield bug("rounding", name, "encode", title, says, _codes_again(name, rounding))
    says = "Leaves the places of all-zero sub-blocks empty, where the release fills them with those that follow."
    yield bug("quirk of the release", "IQ3_S", "encode", "places of empty sub-blocks kept", says, _iq3_s_in_place)


def bugs() -> Iterator[Bug]:
    yield from _shared_bugs()
    yield from _k_bugs()
