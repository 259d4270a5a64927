"""What holds of a wrong encoder's answers, where no bug is known to give them: which blocks, fields and weights differ.

Each sentence is a fact about all answers that were compared, right and wrong, and none a guess at the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.conform.judge import DIFFERS, EXACT, Cell, Verdict
from hifi_ref.conform.reproduce import one_way, ranges
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Layout

# Factors of the searches: a scale may be off by the quotient of two.
FACTORS = (0.9875, 1.0, 1.0125, 1.033, 1.05, 1.1, 1.1125, 1.125)
# How far a binary16 may be from what it was narrowed from, twice.
NARROWED = 2.0**-10
# Blocks of a property that are right nevertheless are counted, if no more than this share of those that are wrong.
NEARLY = 0.5

# Ends of runs of weights: more say nothing of where a bug is.
MOST_RUNS = 4


class Blocks(NamedTuple):
    """All blocks of a cell's answers, in order."""

    x: np.ndarray  # f32[blocks, weights]
    importance: np.ndarray  # f32[blocks, weights], 1 where none was given
    expected: np.ndarray  # u8[blocks, bytes]
    observed: np.ndarray
    row: np.ndarray  # which row of its answer
    block: np.ndarray  # which block of its row

    @property
    def wrong(self) -> np.ndarray:
        return np.not_equal(self.expected, self.observed).any(axis=1)


def facts(cell: Cell, wrong: list[Verdict]) -> str:
    """Sentences, those that say most first; "" where there is nothing to compare."""
    layout = cell.suite.layout
    verdicts = [v for v in cell.verdicts if v.outcome in (EXACT, DIFFERS) and v.observed is not None]
    verdicts = [v for v in verdicts if v.answer.size == v.case.expected.size]
    if layout.name not in FORMATS or not verdicts or layout.block_size == 1:
        return ""
    blocks = _blocks(layout, verdicts)
    if not blocks.wrong.any():
        return ""
    only = one_way(wrong, [v for v in verdicts if v.outcome == EXACT])
    said = [f"Only {only} goes wrong."] if only else []
    return " ".join([*said, *_where(blocks), *_properties(layout, blocks), *_fields(layout, blocks)])


def _blocks(layout: Layout, verdicts: list[Verdict]) -> Blocks:
    parts = []
    for v in verdicts:
        x = v.case.array("weights").reshape(v.case.rows, -1, layout.block_size)
        given = v.case.given.get("importance")
        importance = np.ones(x.shape[1:], np.float32) if given is None else given.reshape(x.shape[1:])
        rows, blocks = np.divmod(np.arange(x.shape[0] * x.shape[1]), x.shape[1])
        raw = (a.reshape(-1, layout.type_size) for a in (v.case.expected, v.answer))
        every = np.broadcast_to(importance, x.shape).reshape(-1, layout.block_size)
        parts.append((x.reshape(-1, layout.block_size), every, *raw, rows, blocks))
    return Blocks(*(np.concatenate(part) for part in zip(*parts, strict=True)))


# WHICH BLOCKS


def _where(blocks: Blocks) -> Iterator[str]:
    wrong = blocks.wrong
    if blocks.row[wrong].min() > 0:
        yield "Only rows after the first of several are wrong."
    elif blocks.block[wrong].min() > 0:
        yield "Only blocks after the first of a row are wrong."


def _properties(layout: Layout, blocks: Blocks) -> Iterator[str]:
    """What all wrong blocks have, and hardly any right one."""
    x, wrong = blocks.x, blocks.wrong
    magnitudes = abs(x)
    largest = magnitudes.max(axis=1, keepdims=True)
    extreme = np.take_along_axis(x, magnitudes.argmax(axis=1)[:, None], 1)[:, 0]
    subs = x.reshape(len(x), -1, 16 if layout.block_size >= 256 else min(16, layout.block_size))
    properties: dict[str, np.ndarray] = {
        "hold nothing but zeros": np.all(x == 0, axis=1),
        "hold negative weights alone": np.all(x < 0, axis=1),
        "hold positive weights alone": np.all(x > 0, axis=1),
        "hold no weight above 0": np.all(x <= 0, axis=1),
        "hold no weight below 0": np.all(x >= 0, axis=1),
        "hold equal weights alone": np.all(x == x[:, :1], axis=1),
        "hold zeros": np.equal(x, 0).any(axis=1),
        "have several weights of the largest magnitude": ((magnitudes == largest).sum(axis=1) > 1),
        "hold a run of 16 zeros": _some_run(subs == 0),
        "hold a run of 16 negative weights": _some_run(subs < 0),
        "hold a run of 16 positive weights": _some_run(subs > 0),
        "have importances of 0": np.equal(blocks.importance, 0).any(axis=1),
        "have a largest magnitude that is negative": extreme < 0,
        "have a largest magnitude that is positive": extreme > 0,
        "have a largest magnitude below 1": largest[:, 0] < 1,
        "have a largest magnitude of 1 or more": largest[:, 0] >= 1,
        "hold a weight that is subnormal": ((x != 0) & (magnitudes < np.finfo(np.float32).tiny)).any(axis=1),
    }
    for says, has in properties.items():
        right = int((has & ~wrong).sum())
        if has[wrong].all() and right <= NEARLY * int(wrong.sum()) and not has.all():
            but = f", and {right} right ones do" if right else ", and no right one does"
            yield f"All {int(wrong.sum())} wrong blocks {says}{but}."
            return


def _some_run(has: np.ndarray) -> np.ndarray:
    """bool[blocks, runs, weights] -> whether all of some run have it."""
    found: np.ndarray = np.any(np.all(has, axis=2), axis=1)
    return found


# WHAT OF THEM


def _fields(layout: Layout, blocks: Blocks) -> Iterator[str]:
    wrong = blocks.wrong
    expected, observed = blocks.expected[wrong], blocks.observed[wrong]
    differ = {
        f.name: (expected[:, layout.span(f.name)] != observed[:, layout.span(f.name)]).any(axis=1)
        for f in layout.fields
    }
    bad, good = [n for n, d in differ.items() if d.any()], [n for n, d in differ.items() if not d.any()]
    if good:
        yield f"In all wrong blocks {_and(good)} {'is' if len(good) == 1 else 'are'} right; {_and(bad)} can differ."
    for field in layout.fields:
        if field.dtype in ("f16", "f32") and field.count == 1 and differ[field.name].any():
            if says := _ratio(layout, field.name, expected, observed):
                yield says
    yield from _weights(layout, expected, observed)


def _ratio(layout: Layout, name: str, expected: np.ndarray, observed: np.ndarray) -> str:
    """How a scale that is wrong compares with the right one."""
    at = layout.names.index(name)
    with np.errstate(all="ignore"):
        right, given = (np.asarray(layout.unpack(a)[at], np.float64).reshape(-1) for a in (expected, observed))
    usable = np.isfinite(right) & np.isfinite(given) & np.greater(abs(right), 2.0**-13)
    if usable.sum() < 3:
        return ""
    ratio = given[usable] / right[usable]
    middle = float(np.median(ratio))
    if abs(middle - 1) > 2 * NARROWED and (abs(ratio - middle) <= 2 * NARROWED * abs(middle)).all():
        near = [(a, b) for a in FACTORS for b in FACTORS if a != b and abs(a / b - middle) < NARROWED / 4]
        like = f", as with a factor of {near[0][0]} in the place of {near[0][1]}" if near else ""
        return f"{name} is {middle:.4g} times the right one in all wrong blocks{like}."
    share = f"where it is at least 2^-13, in {int(usable.sum())} wrong blocks"
    if (ratio < 0).all():
        return f"{name} has the other sign {share}."
    if (abs(ratio) >= 1).all():
        return f"{name} is never smaller than the right one {share}."
    if (abs(ratio) <= 1).all():
        return f"{name} is never larger than the right one {share}."
    return ""


def _weights(layout: Layout, expected: np.ndarray, observed: np.ndarray) -> Iterator[str]:
    """Which weights of a block are ever others, decoded."""
    with np.errstate(all="ignore"):
        right, given = (api.decode(layout.name, a, lane="numpy") for a in (expected, observed))
    other = ((right != given) & ~(np.isnan(right) & np.isnan(given))).any(axis=0)
    runs = np.count_nonzero(np.diff(other.astype(np.int8)))
    if other.any() and not other.all() and runs <= MOST_RUNS:
        yield f"Decoded, only weights {ranges(other)} of a block are ever others."
    elif not other.any():
        yield "Decoded, the weights are the right ones."


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
