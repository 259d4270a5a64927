"""As what a wrong implementation reads each code, solved from its own answers.

A weight is linear in its code's value, in its sub-block's scale and in its min. So each answer tells as what value one
of these was taken, the others being right; where the same code is taken for the same value in all vectors, that is what
the implementation does, whatever its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.conform.dot_numbers import ROUNDED, UNITS, case_of, fields_of, scales_of, unscaled
from hifi_ref.conform.dot_parts import ANSWERS, position_sets
from hifi_ref.conform.judge import EXACT, Cell, Verdict
from hifi_ref.conform.misread_bits import numbers_of
from hifi_ref.formats import FORMATS
from hifi_ref.known_bugs.bug import decode

# How far from it a value may be found, and of how many codes it is told
EXACTLY, TOLD = 0.02, 3
# Of a dot product, so many unknown values at most
UNKNOWN = 32
MINS = {"m", "dmin"}
KINDS = {"code": "code", "scale": "scale of a sub-block", "min": "min of a sub-block"}


class Solved(NamedTuple):
    kind: str
    says: str
    positions: np.ndarray | None


def by_values(cell: Cell, wrong: Sequence[Verdict]) -> Solved | None:
    """Of a decoder: the codes, scales or mins that are taken for other values, everywhere or in some places."""
    name = cell.suite.layout.name
    verdicts = [*wrong, *(v for v in cell.verdicts if v.outcome == EXACT)]
    f = FORMATS[name]
    blocks = np.concatenate([v.case.array("blocks").reshape(-1, f.type_size) for v in verdicts])
    # NaNs that signal are widened, too
    with np.errstate(invalid="ignore"):
        observed, right = (
            np.concatenate([a.reshape(-1, f.block_size) for a in part]).astype(np.float64)
            for part in ([v.answer for v in verdicts], [v.case.expected for v in verdicts])
        )
    off = (observed != right) & ~(np.isnan(observed) & np.isnan(right))
    for kind in KINDS:
        if kind not in numbers_of(name) or (kind == "scale" and name in ("MXFP4", "NVFP4")):
            continue
        with np.errstate(all="ignore"):
            for positions in (np.ones(f.block_size, bool), off.any(axis=0)):
                found = _taken(name, kind, blocks, observed, right, positions)
                if found is not None:
                    return Solved("values", _says(kind, *found), None if positions.all() else positions)
    return None


def _taken(
    name: str, kind: str, blocks: np.ndarray, observed: np.ndarray, right: np.ndarray, positions: np.ndarray
) -> tuple[dict[int, float], np.ndarray] | None:
    """Stored number -> what it is taken for, of those that are wrong; and the right values."""
    bits = numbers_of(name)[kind][0]
    values = _values(name, kind)
    low, high = int(values.argmin()), int(values.argmax())
    stored = np.unpackbits(blocks, axis=1, bitorder="little")[:, bits] @ (1 << np.arange(bits.shape[1]))
    stored = np.repeat(stored, observed.shape[1] // stored.shape[1], axis=1)
    at_low, at_high = (decode(name, _with(blocks, bits, code)).reshape(observed.shape) for code in (low, high))
    slope = (at_high.astype(np.float64) - at_low) / (values[high] - values[low])
    taken, doubt = values[low] + (observed - at_low) / slope, abs(observed) + abs(at_low)
    if not MINS.intersection(FORMATS[name].layout.names):
        # A weight is its value times a scale: no difference loses bits
        taken, doubt = observed / slope, abs(observed)
    doubt = 2.0**-21 * doubt / abs(slope)
    usable = np.isfinite(taken) & (doubt < EXACTLY) & (abs(slope) > 2.0**-100) & positions
    same = (observed == right) | (np.isnan(observed) & np.isnan(right))
    # Nothing is known of codes whose scale is not finite
    if not (same | usable | (doubt >= EXACTLY) & np.isfinite(observed) | ~np.isfinite(slope)).all():
        return None
    wrong: dict[int, float] = {}
    for code in np.unique(stored[usable]):
        here = usable & (stored == code)
        value = float(np.median(taken[here]))
        value = float(np.rint(value)) if abs(value - np.rint(value)) < EXACTLY else value
        if (abs(taken[here] - value) > 4 * doubt[here]).any():
            return None
        if abs(value - values[code]) > 2 * EXACTLY:
            wrong[int(code)] = value
    return (wrong, values) if wrong else None


def _with(blocks: np.ndarray, bits: np.ndarray, code: int) -> np.ndarray:
    """The blocks with one code in all places."""
    changed = np.unpackbits(blocks, axis=1, bitorder="little")
    changed[:, bits] = code >> np.arange(bits.shape[1]) & 1
    return np.packbits(changed, axis=1, bitorder="little")


def _values(name: str, kind: str) -> np.ndarray:
    """What each stored number stands for."""
    f, bits = FORMATS[name], numbers_of(name)[kind][0]
    none = np.zeros((1, f.type_size), np.uint8)
    every = np.concatenate([_with(none, bits, code) for code in range(1 << bits.shape[1])])
    if kind == "code":
        return unscaled(name, every)[:, 0] / UNITS.get(name, 1.0)
    scales, mins, *_ = scales_of(name, fields_of(f.layout, every))
    assert mins is not None or kind == "scale"
    return (scales if kind == "scale" else mins)[:, 0]  # type: ignore[index]


def _says(kind: str, wrong: dict[int, float], values: np.ndarray) -> str:
    told = [f"{code} as {value:g}, where {values[code]:g} is right" for code, value in list(wrong.items())[:TOLD]]
    more = f"; {len(wrong)} in all are read wrongly" if len(wrong) > TOLD else ""
    return f"Reads the {KINDS[kind]} {', and '.join(told)}{more}"


def dot_by_values(cell: Cell, wrong: Sequence[Verdict]) -> Solved | None:
    """Of a dot product: the values of the table of codes that are others, everywhere or in some positions."""
    f = FORMATS[cell.suite.layout.name]
    verdicts = [*wrong, *(v for v in cell.verdicts if v.outcome == EXACT)]
    cases = [case for v in verdicts if (case := case_of(f.name, v)) is not None]
    codes = np.unique(np.concatenate([case.numbers.codes.reshape(-1) for case in cases])) if cases else np.empty(0)
    if not 1 < len(codes) <= UNKNOWN:
        return None
    shares, off = [], []
    for case in cases:
        k = case.numbers
        weights = k.factors * k.q / (case.size[:, None, None] + 1e-300)
        shares.append(np.stack([(weights * (k.codes == code)).sum(axis=1) for code in codes], axis=1))
        off.append(case.off / (case.size + 1e-300))
    share, apart = np.concatenate(shares), np.concatenate(off)
    if (abs(apart) > 4 * ROUNDED).sum() < ANSWERS or len(apart) < len(codes) + 2 * ANSWERS:
        return None
    for positions in position_sets(f.block_size):
        more = _solved(share @ positions, apart)
        if more is not None:
            told = [f"{code:g} as {code + m:g}" for code, m in zip(codes, more, strict=True) if m]
            rest = f"; {len(told)} values in all" if len(told) > TOLD else ""
            says = f"Reads what is {', and what is '.join(told[:TOLD])}{rest}"
            return Solved("values", says, None if positions.all() else positions > 0)
    return None


def _solved(share: np.ndarray, apart: np.ndarray) -> np.ndarray | None:
    """By how much each value is off, if that gives all answers."""
    solved, _, rank, _ = np.linalg.lstsq(share, apart, rcond=None)
    if rank < share.shape[1]:
        return None
    more = solved.copy()
    near = abs(more - np.rint(more)) < EXACTLY
    more[near] = np.rint(more[near])
    wrong = abs(share @ more - apart) > ROUNDED * (1 + abs(share * more).sum(axis=1))
    return None if wrong.any() or not more.any() else more
