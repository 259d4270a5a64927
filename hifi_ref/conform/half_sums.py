"""The dot product of F16 as kernels with binary16 arithmetic add it: the build for armv8.2 alone. In NumPy alone."""

from __future__ import annotations

import numpy as np

# Four accumulators of eight lanes.
ACCUMULATORS, LANES = 4, 8


def dot_in_halves(w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """f16[rows, n], f16[n] -> f32[rows] (ggml_vec_dot_f16 with GGML_F16x8_FMA; what is left of a row in binary64).

    A fused multiply-add rounds once, to binary16. Here the exact product meets the sum in binary64, which rounds as
    well, but far below.
    """
    rows, n = w.shape
    whole = n - n % (ACCUMULATORS * LANES)
    with np.errstate(all="ignore"):
        products = w.astype(np.float64) * a.astype(np.float64)
        lanes = np.zeros((rows, ACCUMULATORS, LANES), np.float16)
        for terms in products[:, :whole].reshape(rows, -1, ACCUMULATORS, LANES).swapaxes(0, 1):
            lanes = (lanes + terms).astype(np.float16)
        halves = lanes[:, :2] + lanes[:, 2:]
        wide = (halves[:, 0] + halves[:, 1]).astype(np.float32)
        four = wide[:, :4] + wide[:, 4:]
        total = ((four[:, 0] + four[:, 1]) + (four[:, 2] + four[:, 3])).astype(np.float64)
        for term in products[:, whole:].T:
            total += term.astype(np.float32)
        return total.astype(np.float32)
