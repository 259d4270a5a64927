"""Deviations that shipped implementations have and that do no harm: what each allows, and why it does none.

An answer with other bits than the expected ones is acceptable where one of these explains it whole. Most do so to the
last bit; to activations that no encoder writes any answer is accepted, and of a search one that is as close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.conform import row_encoders
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.conform.half_sums import dot_in_halves
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Layout

# An encoder that chooses otherwise has at most so many times the reference's squared error.
MORE_ERROR = 1.01
# The floats that a block's scales are stored as.
SCALES = ("f16", "f32")


class Deviation(NamedTuple):
    """``allows(layout, case, observed)`` says whether it explains an answer of ``operation`` that differs."""

    flag: str
    operation: str
    says: str
    allows: Callable[[Layout, Case, np.ndarray], bool]


def deviation_of(suite: Suite, case: Case, observed: np.ndarray) -> str | None:
    """The flag of the first deviation that explains an answer whose bits differ, of the expected size; or None."""
    for deviation in DEVIATIONS:
        if deviation.operation == suite.operation and deviation.allows(suite.layout, case, observed):
            return deviation.flag
    return None


def _lowest_activation(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """Some activation has the code -128."""
    partner = FORMATS.get(layout.dot_with or "")
    if partner is None or partner.block_size == 1:
        return False
    codes = partner.layout.by_name(_blocks(partner.layout, case.array("a")))["qs"]
    return bool((codes == -128).any())


def _sums_in_halves(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """The sums of a kernel that adds in binary16."""
    if layout.name != "F16":
        return False
    w, a = (case.array(operand).view("<f2") for operand in ("w", "a"))
    return np.array_equal(dot_in_halves(w.reshape(case.rows, -1), a).view(np.uint32), observed.view(np.uint32))


def _ties_to_even(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """The blocks of the row encoders that round to even."""
    if layout.name not in ("Q8_0", "Q8_1"):
        return False
    return any(
        np.array_equal(blocks, observed) for blocks in row_encoders.q8_to_even(layout.name, case.array("weights"))
    )


def _zero_of_other_sign(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """Nothing differs but the signs of scales that are zero."""
    one, other = (_blocks(layout, raw).copy() for raw in (case.expected, observed))
    for part in layout.fields:
        if part.dtype in SCALES:
            at = slice(layout.offset(part.name), layout.offset(part.name) + part.size)
            numbers = [np.ascontiguousarray(raw[:, at]).view(f"<f{part.size // part.count}") for raw in (one, other)]
            if (numbers[0] != numbers[1]).any():
                return False
            one[:, at] = other[:, at] = 0
    return np.array_equal(one, other)


def _fused(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """Another choice, where builds with fused multiply-adds are known to make one: theirs, or one that is as close."""
    if case.result != "profile-dependent":
        return False
    own = case.profiles.get("clang-arm64")
    return (own is not None and np.array_equal(own, observed)) or as_close(layout, case, observed)


def as_close(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """Whether encoded blocks decode to weights about as close to the given ones as the expected blocks do."""
    if layout.name not in FORMATS:
        return False
    x, importance = case.array("weights").astype(np.float64), case.given["importance"]
    weight = 1 if importance is None else np.tile(importance, case.rows)
    with np.errstate(all="ignore"):
        right, got = (
            float((np.square(api.decode(layout.name, raw, lane="numpy") - x) * weight).sum())
            for raw in (case.expected, observed)
        )
    return got <= right * MORE_ERROR


def _one_trial(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """The blocks of the row encoder that tries one scale. Where that is 0 it leaves codes as they stood in memory."""
    if layout.name != "IQ4_NL" or case.given["importance"] is not None:
        return False
    expected, got = _blocks(layout, row_encoders.iq4_nl_of_one_trial(case.array("weights"))), _blocks(layout, observed)
    scale = layout.span("d")
    left = (expected[:, scale] == 0).all(axis=1)[:, None] & (np.arange(layout.type_size) >= 2)
    # The sign of a NaN is the processor's own.
    nan = np.isnan(layout.by_name(expected)["d"]) & np.isnan(layout.by_name(got)["d"])
    left[:, scale] |= nan.reshape(-1, 1)
    return bool(((expected == got) | left).all())


def _blocks(layout: Layout, raw: np.ndarray) -> np.ndarray:
    return raw.reshape(-1, layout.type_size)


DEVIATIONS = (
    Deviation(
        "unreachable-activations",
        "dot",
        "an activation has the code -128, which no encoder writes; what negates it in 8 bits gives -128 again",
        _lowest_activation,
    ),
    Deviation(
        "half-sums",
        "dot",
        "products are added in binary16, with one rounding each, as the kernel for armv8.2 with half precision does",
        _sums_in_halves,
    ),
    Deviation(
        "simd-ties",
        "encode",
        "weights between two codes go to the even one, as in the rows that SIMD encodes while a model runs; files "
        "are written by the reference",
        _ties_to_even,
    ),
    Deviation("zero-scale-sign", "encode", "a scale that is zero has the other sign", _zero_of_other_sign),
    Deviation(
        "fused-build",
        "encode",
        "a search chose otherwise, and as well, as in builds that fuse multiply-adds (arm64, or x86-64 with FMA)",
        _fused,
    ),
    Deviation(
        "row-encoder",
        "encode",
        "the encoder of rows while a model runs (quantize_row_iq4_nl), which tries one scale; ggml_quantize_chunk, "
        "which writes files, tries sixteen",
        _one_trial,
    ),
)
FLAGS = tuple(deviation.flag for deviation in DEVIATIONS)
