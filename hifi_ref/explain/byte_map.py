"""Which bits of which bytes hold which numbers, as a list of runs: what the pictures draw and the tables say.

Bytes that hold alike numbers, each by a constant more than the byte before, make one run; runs that repeat themselves
make a period: Q4_K's 144 bytes are five runs and four times one, IQ2_XXS's 66 are one run and eight times five.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hifi_ref.explain.places import numbers_of
from hifi_ref.formats import FORMATS


class Piece(NamedTuple):
    """Bits ``low`` .. ``high`` of a byte hold bits from ``first`` on of number ``at`` of a kind.

    ``step``: by how much ``at`` grows from byte to byte of a run, ``shift``: by how much ``first`` does.
    """

    low: int
    high: int
    kind: str
    at: int
    first: int
    step: int = 0
    shift: int = 0


class Run(NamedTuple):
    """``size`` bytes from ``byte`` on that hold alike pieces, lowest first."""

    byte: int
    size: int
    pieces: tuple[Piece, ...]


class Period(NamedTuple):
    """Runs that stand ``times`` times, ``stride`` bytes apart, each time with numbers later by the same."""

    runs: tuple[Run, ...]
    times: int
    stride: int


def pieces_of(name: str) -> list[tuple[Piece, ...]]:
    """The pieces of each byte of a block."""
    owner: list[tuple[str, int, int]] = [("", 0, 0)] * (8 * FORMATS[name].type_size)
    for numbers in numbers_of(name):
        for index, bits in enumerate(numbers.bits.tolist()):
            for k, bit in enumerate(bits):
                owner[bit] = numbers.kind, index, k
    return [_pieces(owner[at : at + 8]) for at in range(0, len(owner), 8)]


def _pieces(owner: list[tuple[str, int, int]]) -> tuple[Piece, ...]:
    found: list[Piece] = []
    for bit, (kind, index, k) in enumerate(owner):
        last = found[-1] if found else None
        if last and (last.kind, last.at) == (kind, index) and k == last.first + bit - last.low:
            found[-1] = last._replace(high=bit)
        else:
            found.append(Piece(bit, bit, kind, index, k))
    return tuple(found)


def runs_of(name: str) -> list[Run]:
    """The bytes of a block as runs."""
    found: list[Run] = []
    for byte, pieces in enumerate(pieces_of(name)):
        grown = _grown(found[-1], pieces) if found else None
        if grown:
            found[-1] = grown
        else:
            found.append(Run(byte, 1, pieces))
    return found


def _grown(run: Run, pieces: tuple[Piece, ...]) -> Run | None:
    """The run with one more byte, where that fits."""
    if len(pieces) != len(run.pieces):
        return None
    made = []
    for old, new in zip(run.pieces, pieces, strict=True):
        if (old.low, old.high, old.kind) != (new.low, new.high, new.kind):
            return None
        step, shift = (new.at - old.at, new.first - old.first)
        if run.size == 1:
            # Either the next number, or the next bits of the same.
            if (step == 0) == (shift == 0) or shift not in (0, new.high - new.low + 1):
                return None
            old = old._replace(step=step, shift=shift)
        elif (step, shift) != (run.size * old.step, run.size * old.shift):
            return None
        made.append(old)
    return Run(run.byte, run.size + 1, tuple(made))


def periods_of(name: str) -> list[Period]:
    """The runs of a block, those that repeat themselves once."""
    runs, found, at = runs_of(name), [], 0
    while at < len(runs):
        size, times = max(
            ((size, _times(runs, at, size)) for size in range(1, (len(runs) - at) // 2 + 1)),
            key=lambda found: (found[1] > 1, found[0] * found[1], -found[0]),
            default=(1, 1),
        )
        if times == 1 or size == 1 and runs[at].size == 1 and times < 3:
            size, times = 1, 1
        stride = runs[at + size].byte - runs[at].byte if times > 1 else 0
        found.append(Period(tuple(runs[at : at + size]), times, stride))
        at += size * times
    return found


def _times(runs: list[Run], at: int, size: int) -> int:
    """How many times the runs from ``at`` on repeat themselves with this period."""
    times = 1
    while at + (times + 1) * size <= len(runs):
        pairs = [(runs[at + i], runs[at + times * size + i], runs[at + size + i]) for i in range(size)]
        if not all(_alike(first, now, second, times) for first, now, second in pairs):
            break
        times += 1
    return times


def _alike(first: Run, now: Run, second: Run, times: int) -> bool:
    """Whether ``now`` is ``first``, ``times`` periods later; ``second`` is one later."""
    if now.size != first.size or now.byte - first.byte != times * (second.byte - first.byte):
        return False
    if len(now.pieces) != len(first.pieces):
        return False
    alike = all(a._replace(at=0) == b._replace(at=0) for a, b in zip(now.pieces, first.pieces, strict=True))
    pieces = zip(first.pieces, second.pieces, now.pieces, strict=True)
    return alike and all(c.at - a.at == times * (b.at - a.at) for a, b, c in pieces)


def kinds_of_bits(name: str) -> np.ndarray:
    """str[8 * type_size]: the kind of number that each bit belongs to."""
    kinds = np.empty(8 * FORMATS[name].type_size, object)
    for numbers in numbers_of(name):
        kinds[numbers.bits] = numbers.kind
    return kinds
