"""An implementation of Q4_0 and Q8_0, and a decoder of IQ2_XXS, in NumPy that hifi_ref.conform can judge:

    PYTHONPATH=docs/examples/conform python -m hifi_ref.conform python:kernels

Replace decode, encode and dot by your own; what is not offered raises NotImplementedError. Of hifi_ref nothing is used
but golden/grids.json.
"""

import json
from pathlib import Path

import numpy as np

GRIDS = json.loads((Path(__file__).resolve().parents[3] / "golden" / "grids.json").read_text())


def scale_of(blocks):
    """The binary16 that every block here begins with, f32[blocks, 1]."""
    return blocks[:, :2].copy().view("<f2").astype(np.float32)


def codes_of(name, blocks):
    """int32[blocks, 32]."""
    if name == "Q8_0":
        return blocks[:, 2:].view(np.int8).astype(np.int32)
    qs = blocks[:, 2:].astype(np.int32)
    return np.concatenate([qs & 15, qs >> 4], axis=1) - 8


def numbers_of(name, blocks):
    """The numbers that are packed in blocks, by the triples byte, shift, width of grids.json: int[blocks, count]."""
    wide, found = blocks.astype(np.int64), {}
    for kind, entries in GRIDS["formats"][name]["numbers"].items():
        columns = []
        for entry in entries:
            value = at = 0
            for byte, shift, width in zip(*[iter(entry)] * 3, strict=True):
                value = value | (wide[:, byte] >> shift & (1 << width) - 1) << at
                at += width
            columns.append(value)
        found[kind] = np.stack(columns, axis=1)
    return found


def decode_iq2_xxs(blocks):
    numbers = numbers_of("IQ2_XXS", blocks)
    magnitudes = np.array(GRIDS["grids"]["IQ2_XXS"]["table"], np.float32)[numbers["row"]]
    signs = np.array(GRIDS["signs"]["table"])[numbers["sign"]]
    signed = np.where(signs[..., None] >> np.arange(8) & 1, -magnitudes, magnitudes)
    scales = scale_of(blocks) * (2 * numbers["scale"] + 1).astype(np.float32) / np.float32(8)
    return np.repeat(scales, 32, axis=1) * signed.reshape(len(blocks), 256)


# WHAT IS JUDGED

SIZES = {"Q4_0": 18, "Q8_0": 34, "IQ2_XXS": 66}


def decode(name, blocks):
    if name not in SIZES:
        raise NotImplementedError
    rows, blocks = len(blocks), blocks.reshape(-1, SIZES[name])
    with np.errstate(all="ignore"):
        values = decode_iq2_xxs(blocks) if name == "IQ2_XXS" else scale_of(blocks) * codes_of(name, blocks)
    return values.astype(np.float32).reshape(rows, -1)


def encode(name, x, weights):
    """Q4_0 would search its scale by importance, which is not offered here; Q8_0 has no use for it."""
    if name not in ("Q4_0", "Q8_0") or (name == "Q4_0" and weights is not None):
        raise NotImplementedError
    rows, x = len(x), x.reshape(-1, 32)
    extreme = np.take_along_axis(x, abs(x).argmax(axis=1)[:, None], axis=1)
    with np.errstate(all="ignore"):
        # The sign of a zero among the weights does not count.
        d = (extreme + np.float32(0)) / np.float32(-8) if name == "Q4_0" else abs(extreme) / np.float32(127)
        scaled = x * np.where(d == 0, np.float32(0), np.float32(1) / d)
        if name == "Q4_0":
            shifted = scaled + np.float32(8.5)
            codes = np.minimum(np.where(np.isfinite(shifted), shifted, 0).astype(np.int32), 15)
            codes = codes[:, :16] | codes[:, 16:] << 4
        else:
            # Halves go away from zero.
            whole = np.trunc(scaled)
            away = whole + np.where(abs(scaled - whole) >= 0.5, np.sign(scaled), 0)
            codes = np.where(np.isfinite(away), away, 0).astype(np.int32)
        halves = d.astype("<f2").view(np.uint8)
    return np.concatenate([halves, codes.astype(np.uint8)], axis=1).reshape(rows, -1)


def dot(name, w, a):
    """Block after block, in the reference's order of multiplications."""
    if name not in ("Q4_0", "Q8_0"):
        raise NotImplementedError
    a = a.reshape(-1, 34)
    w = w.reshape(-1, SIZES[name])
    rows, tiled = len(w) // len(a), np.tile(a, (len(w) // len(a), 1))
    sums = (codes_of(name, w) * codes_of("Q8_0", tiled)).sum(axis=1).astype(np.float32)[:, None]
    with np.errstate(all="ignore"):
        dw, da = scale_of(w), scale_of(tiled)
        terms = (sums * dw * da if name == "Q4_0" else sums * (dw * da)).reshape(rows, -1)
        total = np.zeros(rows, np.float32)
        for column in terms.T:
            total = total + column
    return total
