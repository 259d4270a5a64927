"""Bugs that give every answer of a cell: known ones and derived ones, everywhere, or in some places alone.

A kernel often has a bug in one of two twin lines, so that a bug shows in half of the weights. A bug **explains** a cell
if its answers are the target's in all places in which any answer is wrong, and the target is right elsewhere. A dot
product is also compared with the sums of what two decoders give, of which one has a bug.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.conform.cases import Suite
from hifi_ref.conform.judge import EXACT, Cell, Verdict, bound_of, same
from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from hifi_ref.known_bugs import Bug, bugs_of
from hifi_ref.known_bugs.derived import Derived, derived_bugs, functions

ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, NameError, AttributeError)
# Relative to the sum of magnitudes, what binary32 sums of a row may be off.
ROUNDED = 2.0**-18


class Found(NamedTuple):
    """A bug, and in which places alone it shows; "" for everywhere."""

    bug: Bug | Derived
    where: str = ""


def reproduced(cell: Cell, wrong: Sequence[Verdict]) -> Found | None:
    """The first bug that gives all answers, or else the first that gives them in some places alone."""
    name, operation = cell.suite.layout.name, cell.suite.operation
    if name not in LLAMA_CPP or LLAMA_CPP[name].layout.fields != cell.suite.layout.fields:
        return None
    candidates: tuple[Bug | Derived, ...] = (*bugs_of(name, operation), *derived_bugs(name, operation))
    smallest_first = sorted(wrong, key=lambda v: sum(a.size for a in v.case.given.values() if a is not None))
    verdicts = [*smallest_first, *(v for v in cell.verdicts if v.outcome == EXACT)]
    if operation == "dot":
        everywhere = next((b for b in candidates if all(_same_dot(b, cell.suite, v) for v in verdicts)), None)
        return _by_decoders(cell, smallest_first) if everywhere is None else Found(everywhere)
    places = wrong_places(cell.suite, wrong)
    somewhere: Found | None = None
    run = _functions_run(cell.suite, smallest_first[0])
    for bug in candidates:
        # What is not run there changes nothing, and the answer is wrong
        if isinstance(bug, Derived) and bug.function not in run:
            continue
        kind = _explains(bug, cell.suite, verdicts, places, somewhere is None)
        if kind == "everywhere":
            return Found(bug)
        if kind == "somewhere" and somewhere is None:
            somewhere = Found(bug, named(cell.suite, places))
    return somewhere


def _explains(bug: Bug | Derived, suite: Suite, verdicts: Iterable[Verdict], places: np.ndarray, partly: bool) -> str:
    """ "everywhere", "somewhere" or ""."""
    everywhere = True
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


def answer(bug: Bug | Derived, suite: Suite, verdict: Verdict) -> np.ndarray:
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
    return found


def _same_in(suite: Suite, given: np.ndarray, observed: np.ndarray, places: np.ndarray) -> bool:
    one, other = (_by_block(suite, a)[:, places] for a in (given, observed))
    return bool(same(np.ascontiguousarray(one), np.ascontiguousarray(other)).all())


def named(suite: Suite, places: np.ndarray) -> str:
    """ "weights 0 to 15", or the fields that the bits belong to."""
    if suite.operation == "encode":
        bytes_ = np.flatnonzero(places) // 8
        return " and ".join(dict.fromkeys(suite.layout.field_at(int(byte)).name for byte in bytes_))
    at = np.flatnonzero(places)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"weights {', '.join(texts[:3])}{' and so on' if len(texts) > 3 else ''} of a block"


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


def _by_decoders(cell: Cell, wrong: Sequence[Verdict]) -> Found | None:
    """A bug of decoding, of the weights or of the activations, in all or half of the weights of each run of 32."""
    f = FORMATS[cell.suite.layout.name]
    verdicts = [*wrong, *(v for v in cell.verdicts if v.outcome == EXACT)]
    usable = [v for v in verdicts if np.isfinite(v.answer).all() and np.isfinite(v.case.expected).all()]
    if len(usable) < 3:
        return None
    for side, name in (("w", f.name), ("a", str(f.dot_with))):
        bugs: tuple[Bug | Derived, ...] = (*bugs_of(name, "decode"), *derived_bugs(name, "decode"))
        for bug in bugs:
            for part, where in ((slice(None), ""), (slice(0, 16), "first"), (slice(16, 32), "second")):
                if all(_product_is(bug, side, part, cell.suite, v) for v in usable):
                    half = f"the {where} half of each 32 {'weights' if side == 'w' else 'activations'}"
                    return Found(bug, half if where else "the activations" if side == "a" else "")
    return None


@np.errstate(all="ignore")  # spoilt weights may be infinite where the right ones are not
def _product_is(bug: Bug | Derived, side: str, part: slice, suite: Suite, verdict: Verdict) -> bool:
    """Whether a wrong answer is the right one plus what the bug adds, with sums of activations as they are stored."""
    f = FORMATS[suite.layout.name]
    w, a = verdict.case.array("w"), verdict.case.array("a")
    name, raw = (f.name, w) if side == "w" else (str(f.dot_with), a)
    spoilt = _spoilt(bug, name, raw.tobytes())
    right = _decoded(name, raw.tobytes())
    if spoilt is None or spoilt.size != right.size:
        return False
    more = np.zeros((right.size // 32, 32))
    more[:, part] = (spoilt - right).reshape(-1, 32)[:, part]
    other = _decoded(str(f.dot_with), a.tobytes()) if side == "w" else _decoded(f.name, _without_mins(f, w).tobytes())
    rows = verdict.case.rows
    pairs = (more.reshape(rows, -1), other) if side == "w" else (other.reshape(rows, -1), more.reshape(-1))
    size = abs(_decoded(f.name, w.tobytes()).reshape(rows, -1) * _decoded(str(f.dot_with), a.tobytes())).sum(axis=1)
    terms = pairs[0] * pairs[1]
    predicted = verdict.case.expected + terms.sum(axis=1)
    return bool((abs(predicted - verdict.answer) <= ROUNDED * (size + abs(terms).sum(axis=1))).all())


def _without_mins(f: Format, w: np.ndarray) -> np.ndarray:
    """The blocks with mins of 0: these are multiplied by stored sums, not by the codes of the activations."""
    blocks = w.reshape(-1, f.type_size).copy()
    for field in f.layout.names:
        if field in ("m", "dmin"):
            blocks[:, f.layout.span(field)] = 0
    return blocks


@functools.lru_cache(maxsize=512)
def _decoded(name: str, blocks: bytes) -> np.ndarray:
    return api.decode(name, np.frombuffer(blocks, np.uint8), lane="numpy").astype(np.float64)


@functools.lru_cache(maxsize=512)
def _spoilt(bug: Bug | Derived, name: str, blocks: bytes) -> np.ndarray | None:
    with np.errstate(all="ignore"):
        try:
            raw = np.frombuffer(blocks, np.uint8).reshape(-1, FORMATS[name].type_size).copy()
            return np.asarray(bug.run(raw), np.float64).reshape(-1)
        except ERRORS:
            return None
