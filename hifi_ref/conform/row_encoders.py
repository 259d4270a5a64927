"""The encoders of rows while a model runs, where they write other blocks than those of files. In NumPy alone."""

from __future__ import annotations

import numpy as np

from hifi_ref.formats import iq4_nl, q8_0, q8_1
from hifi_ref.formats.codebooks import STEPS_IQ4, nearest_step_iq4
from hifi_ref.formats.packing import join_nibbles

# Below this magnitude a block is zero.
NOTHING = np.float32(1e-15)


def q8_to_even(name: str, x: np.ndarray) -> list[np.ndarray]:
    """f32[n] -> the blocks of Q8_0 or Q8_1 that come of rounding to even, u8[bytes]: one for each inverse in use.

    That is 127 / max in the x86-64 kernels, 1 / (max / 127) in those of arm64 (quantize_row_q8_0, ggml-cpu/arch).
    """
    x = x.reshape(-1, 32)
    with np.errstate(all="ignore"):
        largest = abs(x).max(axis=1)
        d = largest / np.float32(127)
        inverses = [np.where(largest == 0, np.float32(0), i) for i in (np.float32(127) / largest, np.float32(1) / d)]
        return [_q8(name, d, np.rint(x * inverse[:, None]).astype(np.int8)) for inverse in inverses]


def _q8(name: str, d: np.ndarray, codes: np.ndarray) -> np.ndarray:
    if name == "Q8_0":
        return np.asarray(q8_0.LAYOUT.pack(d=d, qs=codes)).reshape(-1)
    total = d * codes.sum(axis=1, dtype=np.int32).astype(np.float32)
    return np.asarray(q8_1.LAYOUT.pack(d=d, s=total, qs=codes)).reshape(-1)


def iq4_nl_of_one_trial(x: np.ndarray) -> np.ndarray:
    """f32[n] -> the blocks of IQ4_NL with the first scale and its codes, u8[bytes] (quantize_row_iq4_nl_ref).

    The extreme lies on the outermost step, and least squares give the scale; the codes stay those of before.
    """
    x = x.reshape(-1, 32)
    steps = STEPS_IQ4.astype(np.float32)
    with np.errstate(all="ignore"):
        peak = np.take_along_axis(x, abs(x).argmax(axis=1)[:, None], axis=1)
        nothing = abs(peak) < NOTHING
        codes = nearest_step_iq4(np.float32(1) / (peak / steps[0]) * x)
        q, w = steps[codes], x * x
        qx, q2 = ((terms.cumsum(axis=1, dtype=np.float32)[:, -1:]) for terms in (w * q * x, w * q * q))
        d = np.where(nothing | ~(q2 > 0), np.float32(0), qx / q2)
        codes = np.where(nothing, 0, codes)
    blocks = iq4_nl.LAYOUT.pack(d=d[:, 0], qs=join_nibbles(codes.astype(np.uint8)))
    return np.asarray(blocks).reshape(-1)
