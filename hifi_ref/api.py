"""encode, decode, dot: inputs checked, a lane chosen, one format file called.

lane "numpy" is the definition; "jax" the compiled acceleration with the same bits; "auto" is "jax" for jax arrays, and
for NumPy arrays the one that is done first, as far as can be known (hifi_ref/lanes/choose.py). NumPy arrays come back
as NumPy arrays and jax arrays as jax arrays, whichever lane did the work.

A row of weights passes through at most six rooms on its way to blocks:

1. api.py                       what may be asked for
2. lanes/choose.py              which lane
3. lanes/numpy_lane.py          rows cut into chunks for all cores; or lanes/jax_lane/encoding.py, compiled
4. formats/q4_k.py, say         the format: scales, codes, bytes
5. formats/search/              what its encoder minimises
6. exact/                       the arithmetic, one rounding at a time
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref.exact.lanes import Array, SameArray, is_jax, is_traced, library
from hifi_ref.formats import Format, builds
from hifi_ref.lanes import choose, numpy_lane
from hifi_ref.lanes.checks import check_finite, checked_array, format_offering, partner_of, row_length
from hifi_ref.lanes.choose import Kind

LANES = ("auto", "numpy", "jax")
# Where jax decodes and multiplies NumPy arrays when nobody named a lane: they lie in this machine's memory.
HERE = choose.HERE


def encode(
    name: str,
    x: SameArray,
    weights: Array | None = None,
    lane: str = "auto",
    outliers: int | None = None,
    model_params: float | None = None,
    profile: str = builds.STRICT,
) -> SameArray:
    """Weights to blocks, byte for byte as ggml_quantize_chunk of llama.cpp v0.5.0, or of the HIFI fork.

    Args:
        name: a key of FORMATS.
        x: float32[..., n], finite, n a multiple of the block size. Rows are encoded independently.
        weights: importance, float32[n], finite, the same for every row; None for none.
        lane: "auto", "numpy" or "jax".
        outliers: how many outliers a block keeps, or None for what the format does by itself. HIFI formats only.
        model_params: the model's size in billions of parameters, which some HIFI formats take counts from.
        profile: "strict" for the x86-64 release, or another build of formats/builds.py. lane="jax" has the first alone.

    Returns:
        uint8[..., n // block_size * type_size], of x's array library.

    Raises:
        ValueError: an unknown name, lane or profile, a profile that is not known for the format or that the lane lacks,
            a wrong dtype or shape, a value that is not finite, with its index, or a context that the format has no use
            for. What jax is still tracing cannot be inspected: there a value that is not finite gives unspecified
            bytes.
        NotImplementedError: the format has no encoder.
    """
    f = format_offering(name, "encode").in_context(outliers, model_params)
    x = checked_array(x, np.float32, "x")
    n = row_length(x, f.block_size, f"weights a {name} block")
    check_finite(x, "x")
    return _encode(f, x, n, "F32", weights, lane, profile)


def encode_stored(
    name: str,
    x: np.ndarray,
    kind: str,
    weights: np.ndarray | None = None,
    outliers: int | None = None,
    model_params: float | None = None,
    profile: str = builds.STRICT,
) -> np.ndarray:
    """``encode`` of floats as a file stores them, widened on their way: the same bytes, and less to move.

    Args:
        x: [..., n]: float32 where ``kind`` is "F32", the bits as uint16 where it is "F16" or "BF16". That they are
            finite is for the caller to know: of others the bytes are unspecified.
        kind: "F32", "F16" or "BF16".

    The rest is as in ``encode``, whose lane "auto" this takes.
    """
    f = format_offering(name, "encode").in_context(outliers, model_params)
    x = checked_array(x, np.float32 if kind == "F32" else np.uint16, "x")
    n = row_length(x, f.block_size, f"weights a {name} block")
    return _encode(f, x, n, kind, weights, "auto", profile)


def _encode(f: Format, x: Any, n: int, kind: str, weights: Any, lane: str, profile: str) -> Any:
    """Of finite x, in rows of n, which holds what ``kind`` says."""
    name = f.name
    if weights is not None:
        weights = checked_array(weights, np.float32, "weights")
        if weights.shape != (n,):
            raise ValueError(f"weights has shape {weights.shape}, but a row of x has {n} values")
        check_finite(weights, "weights")
    if f.requires_weights and weights is None:
        raise ValueError(f"{name} cannot be encoded without importance weights: pass weights=float32[{n}]")
    shape = (*x.shape[:-1], n // f.block_size * f.type_size)
    build = builds.arithmetic(profile, name, weights is not None)
    if build is not None:
        if lane == "jax":
            raise ValueError(f"lane='jax' computes strictly: profile {profile} needs lane='numpy' or 'auto'")
        lane = "numpy" if is_jax(x) else lane
    given: Any = weights if is_traced(weights) else x
    if _lane(lane, given, Kind("encode", name, weights is not None, profile=profile), x.size) == "jax":
        from hifi_ref.lanes import jax_lane

        if _in_memory(lane, given):
            own, where = None if weights is None else _numpy(weights), HERE if build else choose.platform()
            return _like(x, jax_lane.encode_in_pieces(f, _numpy(x), own, shape, where, build, kind))
        return jax_lane.encode(f, x, weights, shape)
    own = None if weights is None else _numpy(weights)
    return _like(x, numpy_lane.encode(f, _numpy(x), own, build, kind).reshape(shape))


def decode(name: str, blocks: SameArray, lane: str = "auto", out: SameArray | None = None) -> SameArray:
    """Blocks to weights, bit for bit as dequantize_row_* of llama.cpp v0.5.0 (NaN counts equal to NaN).

    Args:
        name: a key of FORMATS.
        blocks: uint8[..., row_bytes], row_bytes a multiple of the type size.
        lane: "auto", "numpy" or "jax".
        out: float32[..., n] to write the result to: a NumPy array is filled, a jax array donated.

    Returns:
        float32[..., n], of the array library of blocks; ``out`` where given and NumPy's.

    Raises:
        ValueError: an unknown name or lane, a wrong dtype or shape.
    """
    f = format_offering(name, "decode")
    blocks = checked_array(blocks, np.uint8, "blocks")
    row_bytes = row_length(blocks, f.type_size, f"bytes a {name} block")
    shape = (*blocks.shape[:-1], row_bytes // f.type_size * f.block_size)
    if out is not None:
        out = checked_array(out, np.float32, "out")
        if out.shape != shape or is_jax(out) != is_jax(blocks):
            raise ValueError(f"out must be a {type(blocks).__name__} of shape {shape}, not {out.shape}")
    if _lane(lane, blocks, Kind("decode", name), blocks.size // f.type_size * f.block_size) == "jax":
        from hifi_ref.lanes import jax_lane

        return jax_lane.decode(f, blocks, shape, out, HERE if _in_memory(lane, blocks) else None)
    # A NumPy array, if any
    own: Any = None if is_jax(blocks) else out
    result = np.empty(shape, np.float32) if own is None or not own.flags.c_contiguous else own
    numpy_lane.decode(f, _numpy(blocks), result)
    if own is None or result is own:
        return _like(blocks, result)
    own[...] = result
    return own


def dot(name: str, w: SameArray, a: Array, lane: str = "auto") -> SameArray:
    """Matrix times vector on blocks, bit for bit as the ggml_vec_dot_*_generic kernel of llama.cpp v0.5.0, row by row.

    Args:
        name: a key of FORMATS, the format of w.
        w: uint8[rows, row_bytes].
        a: uint8[row_bytes of FORMATS[name].dot_with], as many values as a row of w has.
        lane: "auto", "numpy" or "jax".

    Returns:
        float32[rows], of w's array library.

    Raises:
        ValueError: an unknown name or lane, a wrong dtype or shape.
        NotImplementedError: the format has no dot product.
    """
    f = format_offering(name, "dot")
    partner = partner_of(f)
    w, a = checked_array(w, np.uint8, "w"), checked_array(a, np.uint8, "a")
    if w.ndim != 2 or a.ndim != 1:
        raise ValueError(f"w must be uint8[rows, row_bytes] and a uint8[row_bytes], not {w.shape} and {a.shape}")
    n = row_length(w, f.type_size, f"bytes a {name} block") // f.type_size * f.block_size
    na = row_length(a, partner.type_size, f"bytes a {partner.name} block") // partner.type_size * partner.block_size
    if n != na:
        raise ValueError(f"a row of w holds {n} weights, but a holds {na} values")
    given: Any = a if is_traced(a) else w
    if _lane(lane, given, Kind("dot", name, shape=w.shape), len(w) * n) == "jax":
        from hifi_ref.lanes import jax_lane

        return jax_lane.dot(f, partner, w, a, HERE if _in_memory(lane, given) else None)
    return _like(w, numpy_lane.dot(f, partner, _numpy(w), _numpy(a)))


def _lane(lane: str, x: Any, kind: Kind, n: int) -> str:
    """The lane for n weights in x; or raises as the functions above say."""
    if lane not in LANES:
        raise ValueError(f"lane must be one of {', '.join(LANES)}, not {lane!r}")
    if lane == "numpy" and is_traced(x):
        raise ValueError("the NumPy lane cannot run on an array that jax is tracing")
    if lane != "auto":
        return lane
    if is_traced(x):
        return "jax"
    if is_jax(x):
        from hifi_ref.lanes import canary

        return "jax" if canary.is_exact_or_warn(canary.platform_of(x)) else "numpy"
    return choose.lane(kind, n)


def _in_memory(lane: str, x: Any) -> bool:
    return lane == "auto" and not is_jax(x)


def _numpy(x: Array) -> np.ndarray:
    return np.asarray(x)


def _like(x: Any, result: np.ndarray) -> Any:
    return library(x).asarray(result)
