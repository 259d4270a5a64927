"""Dot products that are wrong by what a decoder's bug adds, in all positions of a block or in some alone.

A dot product adds up over positions, so what a bug of decoding adds is known for each of them. A kernel has its code
several times over, for the nibbles of a byte or the halves of a block, and often errs in one of them: sets of positions
that such lines read are tried, all with one product of matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.conform.cases import Suite
from hifi_ref.conform.dot_numbers import ROUNDED
from hifi_ref.conform.judge import EXACT, Cell, Verdict
from hifi_ref.conform.misread_bits import Misread
from hifi_ref.formats import FORMATS, Format
from hifi_ref.known_bugs import Bug, bugs_of
from hifi_ref.known_bugs.derived import Derived, derived_bugs

ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, NameError, AttributeError)
# A set of positions is told from all others by no fewer answers.
ANSWERS = 3


class Part(NamedTuple):
    """A bug of decoding, of the weights "w" or the activations "a", in these positions."""

    bug: Bug | Derived | Misread
    side: str
    positions: np.ndarray  # bool


def by_decoders(cell: Cell, wrong: Sequence[Verdict], misreadings: Sequence[Misread] = ()) -> Part | None:
    """The first bug that gives all answers, in all positions or in some alone. misreadings: these alone are tried."""
    f = FORMATS[cell.suite.layout.name]
    verdicts = [*wrong, *(v for v in cell.verdicts if v.outcome == EXACT)]
    usable = [v for v in verdicts if _is_finite(f, v)]
    if len(usable) < ANSWERS:
        return None
    sets = position_sets(max(f.block_size, FORMATS[str(f.dot_with)].block_size))
    found: Part | None = None
    for side, name in (("w", f.name), ("a", str(f.dot_with)))[: 1 if misreadings else 2]:
        bugs: tuple[Bug | Derived | Misread, ...] = (*bugs_of(name, "decode"), *derived_bugs(name, "decode"))
        if misreadings or side == "w":
            bugs = (*misreadings,) or (*_miscounted(name), *bugs)
        for bug in bugs:
            left = _sets_left(bug, side, sets, cell.suite, usable)
            # What counts otherwise everywhere has another factor: other bugs say which
            if bug in _miscounted(name):
                left[0] = False
            if left[0]:
                return Part(bug, side, sets[0] > 0)
            if found is None and left.any() and sum(v.outcome != EXACT for v in usable) >= ANSWERS:
                found = Part(bug, side, sets[int(left.argmax())] > 0)
    return found


@functools.cache
def _miscounted(name: str) -> tuple[Bug, ...]:
    """Weights that count otherwise than once."""
    ways = (
        (0, "left out", "Leaves out what is to be added"),
        (2, "counted twice", "Adds twice what is to be added once"),
        (-1, "sign", "Subtracts what is to be added"),
    )
    return tuple(
        Bug(f"{name}.dot {kind}", kind, name, "decode", says, lambda blocks, n=n: n * _decoded(name, blocks.tobytes()))
        for n, kind, says in ways
    )


def _is_finite(f: Format, verdict: Verdict) -> bool:
    w, a = (verdict.case.array(side).tobytes() for side in ("w", "a"))
    values = verdict.answer, verdict.case.expected, _decoded(f.name, w), _decoded(str(f.dot_with), a)
    return all(np.isfinite(one).all() for one in values)


@np.errstate(all="ignore")  # spoilt weights may be infinite where the right ones are not
def _sets_left(
    bug: Bug | Derived | Misread, side: str, sets: np.ndarray, suite: Suite, verdicts: Sequence[Verdict]
) -> np.ndarray:
    """bool[sets]: in which the bug gives every answer."""
    left = np.ones(len(sets), bool)
    for verdict in verdicts:
        added = _added(bug, side, suite, verdict, sets.shape[1])
        if added is None:
            return np.zeros_like(left)
        terms, size = added
        more, sizes = terms.sum(axis=1) @ sets.T, abs(terms).sum(axis=1) @ sets.T
        off = abs(verdict.case.expected.astype(np.float64)[:, None] + more - verdict.answer[:, None])
        left &= (off <= ROUNDED * (size[:, None] + sizes)).all(axis=0)
        if not left.any():
            break
    return left


def _added(
    bug: Bug | Derived | Misread, side: str, suite: Suite, verdict: Verdict, unit: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """What the bug adds, [rows, blocks, positions], with sums of activations as they are stored; and the rows' sums of
    magnitudes."""
    f = FORMATS[suite.layout.name]
    w, a, rows = verdict.case.array("w"), verdict.case.array("a"), verdict.case.rows
    name, raw = (f.name, w) if side == "w" else (str(f.dot_with), a)
    spoilt = _spoilt(bug, name, raw.tobytes())
    right = _decoded(name, raw.tobytes())
    if spoilt is None or spoilt.size != right.size:
        return None
    other = _decoded(str(f.dot_with), a.tobytes()) if side == "w" else _decoded(f.name, _without_mins(f, w).tobytes())
    more = spoilt - right
    terms = more.reshape(rows, -1) * other if side == "w" else other.reshape(rows, -1) * more
    size = abs(_decoded(f.name, w.tobytes()).reshape(rows, -1) * _decoded(str(f.dot_with), a.tobytes())).sum(axis=1)
    return terms.reshape(rows, -1, unit), size


@functools.cache
def position_sets(unit: int) -> np.ndarray:
    """[sets, positions of a block], 1 where one belongs: all; those of which some bits are so; runs, and the rest."""
    at = np.arange(unit)
    return np.stack([at >= 0, *_bits(at, unit), *_runs(at, unit)]).astype(np.float64)


def _bits(at: np.ndarray, unit: int) -> Iterator[np.ndarray]:
    """Each r-th of every n runs of k; then those where two bits differ, and where they are alike."""
    powers = [1 << i for i in range(unit.bit_length())]
    for n in powers[1:]:
        for k in reversed(powers):
            for r in range(n) if n * k <= unit else ():
                yield at // k % n == r
    for k in powers[:-1]:
        for other in powers[: powers.index(k)]:
            differ = (at // k ^ at // other) % 2 == 1
            yield differ
            yield ~differ


def _runs(at: np.ndarray, unit: int) -> Iterator[np.ndarray]:
    ends = range(0, unit + 1, max(4, unit // 16))
    for first in ends:
        for last in ends:
            if first < last:
                run = (at >= first) & (at < last)
                yield run
                yield ~run


def _without_mins(f: Format, w: np.ndarray) -> np.ndarray:
    """The blocks with mins of 0: these are multiplied by stored sums, not by the codes of the activations."""
    blocks = w.reshape(-1, f.type_size).copy()
    for field in f.layout.names:
        if field in ("m", "dmin"):
            blocks[:, f.layout.span(field)] = 0
    return blocks


@functools.lru_cache(maxsize=512)
def _decoded(name: str, blocks: bytes) -> np.ndarray:
    with np.errstate(all="ignore"):
        return api.decode(name, np.frombuffer(blocks, np.uint8), lane="numpy").astype(np.float64)


@functools.lru_cache(maxsize=512)
def _spoilt(bug: Bug | Derived | Misread, name: str, blocks: bytes) -> np.ndarray | None:
    with np.errstate(all="ignore"):
        try:
            raw = np.frombuffer(blocks, np.uint8).reshape(-1, FORMATS[name].type_size).copy()
            return np.asarray(bug.run(raw), np.float64).reshape(-1)
        except ERRORS:
            return None
