"""The mode "exact": every product, sum and function as the release computes it, in NumPy.

Setting: llama.cpp v0.5.0, variant x64, flash attention off, K/V cache F32, no repacking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.kernels.matmul import matmul
from hifi_ref.models import functions, rope
from hifi_ref.models.arithmetic import Arithmetic, Matrix
from hifi_ref.models.norms import rms_norm

if TYPE_CHECKING:
    from jaxtyping import Float32

# Sums that are added to in one go: in binary64 they fit the second-level cache.
TILE = 1 << 16


def product(weight: Matrix, x: Float32[np.ndarray, "tokens columns"]) -> Float32[np.ndarray, "tokens rows"]:
    """One matrix. Activations are rounded or encoded to the format that the matrix's own is multiplied with."""
    f = FORMATS[weight.kind]
    if f.block_size > 1:
        return np.asarray(matmul(weight.kind, weight.blocks, x, "exact"))
    if f.dot_with and f.dot_with != "F32":
        x = decoded(Matrix(f.dot_with, np.asarray(api.encode(f.dot_with, x, lane="numpy")), weight.columns))
    return float_products(decoded(weight), x)


def decoded(weight: Matrix) -> Float32[np.ndarray, "rows columns"]:
    """The weights as floats: of plain floats they are views or conversions, of blocks what ``decode`` says."""
    if weight.kind == "F32":
        return np.ascontiguousarray(weight.blocks).view("<f4")
    if weight.kind == "F16":
        return np.ascontiguousarray(weight.blocks).view("<f2").astype(np.float32)
    return np.asarray(api.decode(weight.kind, weight.blocks, lane="numpy"))


def float_products(
    w: Float32[np.ndarray, "*m rows n"], x: Float32[np.ndarray, "*m tokens n"]
) -> Float32[np.ndarray, "*m tokens rows"]:
    """x times w transposed: products rounded to binary32, added first to last in binary64, the sum rounded once."""
    w, x = (np.ascontiguousarray(np.moveaxis(part, -1, 0)) for part in (w, x))
    n, *_, rows = w.shape
    out = np.empty((*x.shape[1:], rows), np.float32)
    step = max(1, TILE // max(1, out[..., 0].size))
    for first in range(0, rows, step):
        here = w[..., None, first : first + step]
        total = np.zeros(out[..., first : first + step].shape, np.float64)
        for k in range(n):
            total += x[k, ..., None] * here[k]
        out[..., first : first + step] = total
    return out


def attend(
    q: Float32[np.ndarray, "tokens heads size"],
    k: Float32[np.ndarray, "tokens kv_heads size"],
    v: Float32[np.ndarray, "tokens kv_heads size"],
    scale: np.float32 | float = 1.0,
    window: int | None = None,
    cap: float = 0.0,
) -> Float32[np.ndarray, "tokens width"]:
    """Without flash attention, from a float32 cache; as Attend says."""
    tokens, heads, size = q.shape
    kv = k.shape[1]
    q = q.transpose(1, 0, 2).reshape(kv, -1, size)
    scores = float_products(k.transpose(1, 0, 2), q)
    if cap:
        scores = functions.capped(scores, cap)
    back = np.arange(tokens)[:, None] - np.arange(tokens)
    allowed = (back >= 0) & (back < (window or tokens))
    # The release's rows are as long as its cache, a multiple of four.
    missing = -tokens % 4
    scores = np.pad(scores.reshape(heads, tokens, tokens), ((0, 0), (0, 0), (0, missing)))
    shares = functions.softmax(scores, scale, np.pad(allowed, ((0, 0), (0, missing))))[..., :tokens]
    out = float_products(v.transpose(1, 2, 0), shares.reshape(kv, -1, tokens))
    return out.reshape(heads, tokens, size).transpose(1, 0, 2).reshape(tokens, -1)


ARITHMETIC = Arithmetic(
    decoded, product, rms_norm, rope.turn, rope.rotate, attend, functions.softmax, functions.swiglu, functions.geglu,
    functions.capped,
)  # fmt: skip
