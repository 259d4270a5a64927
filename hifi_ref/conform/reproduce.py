"""Bugs that give every answer of a cell: known ones and derived ones, everywhere, or in some places alone.

A kernel often has a bug in one of two twin lines, so that a bug shows in half of the weights. A bug **explains** a cell
if its answers are the target's in all places in which any answer is wrong, and the target is right elsewhere. A dot
product is also compared with the sums of what two decoders give, of which one has a bug.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.conform.cases import Suite
from hifi_ref.conform.dot_kernel import Explained, by_kernel
from hifi_ref.conform.dot_parts import ERRORS, by_decoders
from hifi_ref.conform.judge import EXACT, Cell, Verdict, bound_of, same
from hifi_ref.conform.misread_bits import Misread, misreadings
from hifi_ref.conform.solved_numbers import Solved, dot_by_values
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.formats.layout import Layout
from hifi_ref.known_bugs import Bug, bugs_of
from hifi_ref.known_bugs.derived import Derived, derived_bugs, functions


class Found(NamedTuple):
    """A bug, and in which places alone it shows; "" for everywhere."""

    bug: Bug | Derived | Misread | Explained | Solved
    where: str = ""
    # Other bugs that give all answers as well
    others: tuple[Bug | Derived, ...] = ()


# So few wrong answers of a search do not tell one bug from another.
FEW, NAMED = 3, 2
# What hardly anyone does wrong is tried last.
RARE = ("half precision", "truncated arithmetic", "order of products", "choice")


def reproduced(cell: Cell, wrong: Sequence[Verdict]) -> Found | None:
    """The first bug that gives all answers, or else the first that gives them in some places alone."""
    name, operation = cell.suite.layout.name, cell.suite.operation
    if name not in LLAMA_CPP or LLAMA_CPP[name].layout.fields != cell.suite.layout.fields:
        return None
    candidates: tuple[Bug | Derived, ...] = (*bugs_of(name, operation), *derived_bugs(name, operation))
    rare = (*RARE, "carried over") if operation == "encode" else RARE
    candidates = tuple(sorted(candidates, key=lambda bug: bug.kind in rare))
    smallest_first = sorted(wrong, key=lambda v: sum(a.size for a in v.case.given.values() if a is not None))
    right = [v for v in cell.verdicts if v.outcome == EXACT]
    verdicts = [*smallest_first, *right]
    if operation == "dot":
        everywhere = next((b for b in candidates if all(_same_dot(b, cell.suite, v) for v in verdicts)), None)
        return _in_decoders(cell, smallest_first) if everywhere is None else Found(everywhere)
    places = wrong_places(cell.suite, wrong)
    few = operation == "encode" and len(wrong) <= FEW
    somewhere: Found | None = None
    same_answers: list[Bug | Derived] = []
    one: Found | None = None
    only = one_way(wrong, right) if operation == "encode" else ""
    run = _functions_run(cell.suite, smallest_first[0])
    for bug in candidates:
        # What is not run there changes nothing, and the answer is wrong
        if isinstance(bug, Derived) and bug.function not in run:
            continue
        first = answer(bug, cell.suite, smallest_first[0])
        whole = _equal(first, smallest_first[0].answer)
        partly = somewhere is None and (isinstance(bug, Bug) or not few)
        if not whole and not (partly and _agrees_in(cell.suite, first, smallest_first[0].answer, places)):
            continue
        kind = _explains(bug, cell.suite, verdicts[1:], places, partly, whole)
        if kind == "everywhere":
            same_answers.append(bug)
        if same_answers and (not few or len(same_answers) == NAMED):
            break
        if kind == "somewhere" and somewhere is None:
            somewhere = Found(bug, named(cell.suite, places))
        if operation == "encode" and whole and kind != "everywhere" and only and not one:
            others = [v for v in right if alike(v, wrong[0])]
            if _explains(bug, cell.suite, [*smallest_first[1:], *others], places, False):
                one = Found(bug, only)
    if operation == "decode" and not same_answers and somewhere is None:
        for misreading in misreadings(name):
            kind = _explains(misreading, cell.suite, verdicts, places, somewhere is None)
            if kind == "everywhere":
                return Found(misreading)
            if kind and somewhere is None:
                somewhere = Found(misreading, named(cell.suite, places))
    somewhere = one or somewhere
    return Found(same_answers[0], "", tuple(same_answers[1:])) if same_answers else somewhere


def _has_importance(verdict: Verdict) -> bool:
    return verdict.case.given.get("importance") is not None


def alike(one: Verdict, other: Verdict) -> bool:
    """Both with importance, or both without."""
    return _has_importance(one) == _has_importance(other)


def one_way(wrong: Sequence[Verdict], right: Sequence[Verdict]) -> str:
    """The way of encoding that alone goes wrong, with importance or without: C has a function for each; or ""."""
    ways = {_has_importance(v) for v in wrong}
    if len(ways) > 1 or {_has_importance(v) for v in right} <= ways:
        return ""
    return f"encoding with{'' if ways.pop() else 'out'} importance"


def _explains(
    bug: Bug | Derived | Misread,
    suite: Suite,
    verdicts: Iterable[Verdict],
    places: np.ndarray,
    partly: bool,
    everywhere: bool = True,
) -> str:
    """ "everywhere", "somewhere" or ""."""
    for verdict in verdicts:
        given = answer(bug, suite, verdict)
        if given.size != verdict.answer.size:
            return ""
        if everywhere and not same(given, verdict.answer).all():
            everywhere = False
        if not everywhere and not (partly and _same_in(suite, given, verdict.answer, places)):
            return ""
    return "everywhere" if everywhere else "somewhere"


def _functions_run(suite: Suite, verdict: Verdict) -> frozenset[str]:
    return functions.names_run(suite.layout.name, suite.operation, *_given(suite, verdict))


def _given(suite: Suite, verdict: Verdict) -> tuple[np.ndarray | None, ...]:
    """What the case gives, in the shapes that a bug takes."""
    first, *others = (None if a is None else a.copy() for a in verdict.case.given.values())
    assert first is not None
    shape = (-1, suite.layout.type_size) if suite.operation == "decode" else (verdict.case.rows, -1)
    return first.reshape(shape), *others


def answer(bug: Bug | Derived | Misread, suite: Suite, verdict: Verdict) -> np.ndarray:
    """What a bug answers to a case, of one axis; nothing where it cannot answer."""
    try:
        with np.errstate(all="ignore"):
            found = bug.run(*_given(suite, verdict))
        return np.ascontiguousarray(found, verdict.answer.dtype).reshape(-1)
    except ERRORS:
        return np.empty(0, verdict.answer.dtype)


# PLACES


def _by_block(suite: Suite, values: np.ndarray) -> np.ndarray:
    """Weights, or bits of the bytes, of each block: [blocks, places]."""
    if suite.operation == "decode":
        return values.reshape(-1, suite.layout.block_size)
    return np.unpackbits(values.reshape(-1, suite.layout.type_size), axis=1, bitorder="little")


def wrong_places(suite: Suite, wrong: Iterable[Verdict]) -> np.ndarray:
    """bool[places of a block]: where any answer is wrong."""
    found = np.zeros(suite.layout.block_size if suite.operation == "decode" else 8 * suite.layout.type_size, bool)
    for verdict in wrong:
        observed, expected = (_by_block(suite, a) for a in (verdict.answer, verdict.case.expected))
        found |= (~same(observed, expected)).any(axis=0)
    return found if suite.operation == "decode" else _whole_numbers(suite.layout, found)


def _whole_numbers(layout: Layout, places: np.ndarray) -> np.ndarray:
    """bool[bits of a block]: those of all nibbles, and of all floats, that have one of these."""
    whole = np.repeat(places.reshape(-1, 4).any(axis=1), 4)
    for field in layout.fields:
        at = slice(8 * layout.offset(field.name), 8 * (layout.offset(field.name) + field.size))
        if field.dtype in ("f16", "f32"):
            whole[at] = whole[at].any()
    return whole


def _same_in(suite: Suite, given: np.ndarray, observed: np.ndarray, places: np.ndarray) -> bool:
    one, other = (_by_block(suite, a)[:, places] for a in (given, observed))
    return bool(same(np.ascontiguousarray(one), np.ascontiguousarray(other)).all())


def _equal(given: np.ndarray, observed: np.ndarray) -> bool:
    return given.size == observed.size and bool(same(given, observed).all())


def _agrees_in(suite: Suite, given: np.ndarray, observed: np.ndarray, places: np.ndarray) -> bool:
    return given.size == observed.size and _same_in(suite, given, observed, places)


def named(suite: Suite, places: np.ndarray) -> str:
    """ "weights 0 to 15", or the fields that the bits belong to, where only one nibble of their bytes does with it."""
    if suite.operation == "encode":
        nibbles: dict[str, set[int]] = {}
        for place in np.flatnonzero(places):
            nibbles.setdefault(suite.layout.field_at(int(place) // 8).name, set()).add(int(place) % 8 // 4)
        which = {1: {0: " (low nibbles)", 1: " (high nibbles)"}, 2: {0: "", 1: ""}}
        return " and ".join(f"{name}{which[len(of)][min(of)]}" for name, of in nibbles.items())
    return f"weights {ranges(places)} of a block"


def ranges(places: np.ndarray) -> str:
    """ "0 to 15, 32 to 47 and so on"."""
    at = np.flatnonzero(places)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"{', '.join(texts[:3])}{' and so on' if len(texts) > 3 else ''}"


# DOT PRODUCTS


def _same_dot(bug: Bug | Derived, suite: Suite, verdict: Verdict) -> bool:
    """The same bits, or within the bound of the other: a kernel with that bug may well add in another order."""
    given = answer(bug, suite, verdict)
    return agrees(suite, verdict, given)


def agrees(suite: Suite, verdict: Verdict, given: np.ndarray) -> bool:
    """Whether a wrong answer is what a known bug answers."""
    if given.size == verdict.answer.size and bool(same(given, verdict.answer).all()):
        return True
    if suite.operation != "dot" or given.size != verdict.answer.size:
        return False
    if not np.isfinite([*given, *verdict.answer]).all():
        return False
    bounded = bound_of(suite.layout.name, verdict.case, verdict.answer)
    return bounded is not None and bool((abs(given.astype(np.float64) - verdict.answer) <= bounded.bound).all())


def _in_decoders(cell: Cell, wrong: Sequence[Verdict]) -> Found | None:
    """A decoder's bug in all positions, or a way in which the kernel adds and multiplies, or that bug in some alone."""
    part = by_decoders(cell, wrong)
    everywhere = part is not None and part.positions.all()
    if part is not None and everywhere and part.side == "w":
        return Found(part.bug)
    kernel = by_kernel(cell, wrong)
    if kernel is not None and not (everywhere and kernel.positions is not None):
        return Found(kernel, _in_weights(kernel.positions))
    if part is not None and everywhere:
        return Found(part.bug, "the activations")
    part = part or by_decoders(cell, wrong, misreadings(cell.suite.layout.name))
    if part is None:
        solved = dot_by_values(cell, wrong)
        return None if solved is None else Found(solved, _in_weights(solved.positions))
    side = "weights" if part.side == "w" else "activations"
    return Found(part.bug, _in_weights(part.positions).replace("weights", side, 1))


def _in_weights(positions: np.ndarray | None) -> str:
    """ "weights 16 to 31 of each 32"; "" for all."""
    return "" if positions is None or positions.all() else f"weights {ranges(positions)} of each {len(positions)}"
