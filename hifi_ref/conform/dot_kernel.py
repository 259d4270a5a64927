"""Dot products that are wrong by how the kernel adds and multiplies: which way gives all answers.

A way (dot_ways.py) tells what it adds to the right result, position by position, from the numbers that the vectors
hold. So all answers are computed, right and wrong ones, in all positions of a block and in sets of them, and only a way
that gives every one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.conform.dot_numbers import Answered, case_of
from hifi_ref.conform.dot_parts import ANSWERS, ROUNDED, position_sets
from hifi_ref.conform.dot_ways import Way, ways
from hifi_ref.conform.judge import BOUND, EXACT, Cell, Verdict
from hifi_ref.formats import FORMATS, Format

# Of a factor that is found, what counts as 1, and as a round number
ONE = 1e-4
# What is added to the rows of a grid stands in the place of the mins.
SHIFTED = ("IQ1_S", "IQ1_M")


class Explained(NamedTuple):
    """positions: where it is so; None for all."""

    kind: str
    says: str
    positions: np.ndarray | None


def by_kernel(cell: Cell, wrong: Sequence[Verdict]) -> Explained | None:
    """The first way that gives all answers in all positions, or else in a set of them."""
    f = FORMATS[cell.suite.layout.name]
    verdicts = [*wrong, *(v for v in cell.verdicts if v.outcome in (EXACT, BOUND))]
    cases = [case for verdict in verdicts if (case := case_of(f.name, verdict)) is not None]
    clear = sum(int((abs(case.off) > 4 * ROUNDED * case.size).sum()) for case in cases)
    if clear < ANSWERS:
        return None
    cases.sort(key=lambda case: not (abs(case.off) > 4 * ROUNDED * case.size).any())
    sets = position_sets(f.block_size)
    found: Explained | None = None
    for way in ways(cases[0].numbers, FORMATS[str(f.dot_with)].block_size):
        with np.errstate(all="ignore"):
            left, factor = _factors(way, cases, sets) if way.counted else (_left(way, cases, sets), None)
        if not left.any() or (found is not None and not left[0]):
            continue
        best = int(left.argmax())
        explained = _explained(f, way, sets[best] > 0, None if factor is None else float(factor[best]))
        if left[0]:
            return explained
        found = explained
    return found


def _terms(way: Way, case: Answered, positions: int) -> np.ndarray | None:
    """[rows, blocks, positions] of what is added."""
    added = way.added(case.numbers)
    if added is None or not np.isfinite(added).all():
        return None
    per = positions // added.shape[-1]
    return np.repeat(added / per, per, axis=-1) if per > 1 else added


def _left(way: Way, cases: Sequence[Answered], sets: np.ndarray) -> np.ndarray:
    """bool[sets]: in which the way gives every answer."""
    left, told = np.ones(len(sets), bool), 0
    for case in cases:
        terms = _terms(way, case, sets.shape[1])
        if terms is None:
            continue
        which = np.flatnonzero(left)
        chosen = sets[which].T
        more, sizes = terms.sum(axis=1) @ chosen, abs(terms).sum(axis=1) @ chosen
        off = abs(more - case.off[:, None])
        left[which] = (off <= ROUNDED * (case.size[:, None] + sizes)).all(axis=0)
        told += int((abs(case.off) > 4 * ROUNDED * case.size).sum())
        if not left.any():
            return left
    return left if told >= ANSWERS else np.zeros_like(left)


def _factors(way: Way, cases: Sequence[Answered], sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[sets]: in which what is counted counts some number of times, always the same; and how many times."""
    terms = [_terms(way, case, sets.shape[1]) for case in cases]
    usable = [(case, t) for case, t in zip(cases, terms, strict=True) if t is not None]
    if not usable:
        return np.zeros(len(sets), bool), np.ones(len(sets))
    size = np.concatenate([case.size for case, _ in usable])[:, None] + 1e-300
    shares = np.concatenate([t.sum(axis=1) for _, t in usable]) @ sets.T / size
    off = np.concatenate([case.off for case, _ in usable])[:, None] / size
    times = (shares * off).sum(axis=0) / np.maximum((shares * shares).sum(axis=0), 1e-300)
    left = (abs(times * shares - off) <= ROUNDED * (1 + abs(times))).all(axis=0)
    return left & (abs(times) > ONE) & ((abs(off) > 4 * ROUNDED).sum(axis=0) >= ANSWERS), 1 + times


# WORDS


def _explained(f: Format, way: Way, positions: np.ndarray, factor: float | None) -> Explained:
    says, kind = way.says, way.kind
    if factor is not None:
        kind, says = _counts(way.counted, factor, bool(positions.all()))
    if way.taken is not None:
        if not positions.all():
            positions = positions & (way.taken != np.arange(len(positions)))
        wrong = np.flatnonzero(positions & (way.taken != np.arange(len(positions))))[:3]
        says += f": weight {', '.join(f'{i} meets activation {way.taken[i]}' for i in wrong)}"
    if f.name in SHIFTED:
        says = says.replace("mins", "shifts")
    return Explained(kind, says, None if positions.all() else positions)


def _counts(what: str, factor: float, everywhere: bool) -> tuple[str, str]:
    rounded = round(factor * 4096) / 4096
    times = rounded if abs(rounded - factor) < ONE * max(1, abs(factor)) else float(f"{factor:.5g}")
    if what == "an answer" and everywhere:
        if times == -1:
            return "sign", "Every answer has the wrong sign"
        if times == 0:
            return "left out", "Every answer is 0"
        says = f"Every answer is {times:g} times the right one: a factor is left out, doubled or another format's"
        return "constant factor", says
    part = "what is to be added" if what == "an answer" else what
    if times == 0:
        return "left out", f"Leaves out {part}"
    if times == 2:
        return "counted twice", f"Adds {part} twice"
    if times == -1:
        return (
            "sign",
            f"{'Subtracts what is to be added' if what == 'an answer' else f'Adds {part} with the wrong sign'}",
        )
    return "constant factor", f"Counts {part} {times:g} times"
