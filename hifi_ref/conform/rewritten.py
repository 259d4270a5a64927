"""What became of right blocks in a wrong encoder's answers: bits, numbers or blocks that stand in another place.

A bug in packing leaves what was computed right and puts it in a wrong place. So blocks are compared as bytes alone,
over all answers of a cell, right and wrong: a sentence is told where it holds for every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hifi_ref.conform.cases import Suite
from hifi_ref.conform.judge import Verdict
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.known_bugs.derived.orders import orders

# Fewer wrong blocks may agree by chance.
FEWEST = 3
# Of bits that may come from anywhere in a block, fewer do.
MANY = 24
# Of more numbers than this no single ones are looked for.
NUMBERS = 64
Rows = list[tuple[np.ndarray, np.ndarray]]


def rewritten(suite: Suite, verdicts: Sequence[Verdict]) -> str:
    """What holds of all these answers; "" where nothing is found."""
    layout = suite.layout
    rows = [
        (
            v.case.expected.reshape(v.case.rows, -1, layout.type_size),
            v.answer.reshape(v.case.rows, -1, layout.type_size),
        )
        for v in verdicts
        if v.answer.size == v.case.expected.size
    ]
    if len(rows) < len(verdicts) or sum(int((a != b).any(axis=-1).sum()) for a, b in rows) == 0:
        return ""
    return _moved_blocks(rows) or _in_fields(layout, rows) or _in_places(layout, rows)


# BLOCKS


def _moved_blocks(rows: Rows) -> str:
    """Rows and blocks that are others of the same answer."""
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "Every row is the first row again: what is read is not advanced by a row.": lambda e: e * 0 + e[:1],
        "Every block is the first of its row again: what is read is not advanced by a block.": lambda e: (
            e * 0 + e[:, :1]
        ),
        "Every block is the very first one again: what is read is never advanced.": lambda e: e * 0 + e[:1, :1],
        "All rows but the first are left as they were, 0.": lambda e: _only(e, np.s_[:1]),
        "All rows but the last are left as they were, 0.": lambda e: _only(e, np.s_[-1:]),
        "All blocks but the first of a row are left as they were, 0.": lambda e: _only(e, np.s_[:, :1]),
        "All blocks but the last of a row are left as they were, 0.": lambda e: _only(e, np.s_[:, -1:]),
        "The last block of a row is left as it was, 0.": lambda e: _only(e, np.s_[:, :-1]),
        "Only the first half of the blocks of a row is written.": lambda e: _only(e, np.s_[:, : e.shape[1] // 2]),
        "Rows come in reverse order.": lambda e: e[::-1],
        "The blocks of a row come in reverse order.": lambda e: e[:, ::-1],
        "Rows are written one place too far on.": lambda e: np.roll(e, 1, axis=0),
        "The row before is written for each row.": lambda e: e[np.maximum(np.arange(len(e)) - 1, 0)],
        "Each block is the one before it.": lambda e: e[:, np.maximum(np.arange(e.shape[1]) - 1, 0)],
        "Rows and blocks are exchanged.": lambda e: e.swapaxes(0, 1).reshape(e.shape),
    }
    return next((says for says, way in ways.items() if all(np.array_equal(way(e), o) for e, o in rows)), "")


def _only(blocks: np.ndarray, part: tuple[slice, ...] | slice) -> np.ndarray:
    kept = np.zeros_like(blocks)
    kept[part] = blocks[part]
    return kept


# FIELDS


def _in_fields(layout: Layout, rows: Rows) -> str:
    """For each field that is ever wrong, what became of it; "" where one cannot be told."""
    expected, observed = (np.concatenate([pair[i].reshape(-1, layout.type_size) for pair in rows]) for i in (0, 1))
    if (expected != observed).any(axis=1).sum() < FEWEST:
        return ""
    found = []
    for field in layout.fields:
        right, given = expected[:, layout.span(field.name)], observed[:, layout.span(field.name)]
        if not np.array_equal(right, given):
            said = _of_field(layout, field, right, given, expected)
            if not said:
                return ""
            found.append(said)
    return " ".join(found)


def _of_field(layout: Layout, field: Field, right: np.ndarray, given: np.ndarray, blocks: np.ndarray) -> str:
    holds = next((of.holds for of in FORMATS[layout.name].layout.fields if of.name == field.name), "")
    named = f"the field {field.name} ({holds})" if holds else f"the field {field.name}"
    for said in (_filled(right, given), _from_other(layout, field, given, blocks)):
        if said:
            return f"{named[0].upper()}{named[1:]} {said}."
    for says, taken in _orders(field, right):
        if np.array_equal(taken, given):
            return f"{says} of {named}."
    return _bits(field, named, right, given)


def _filled(right: np.ndarray, given: np.ndarray) -> str:
    """One value throughout, or what is turned over."""
    if (given == given[0, 0]).all():
        return f"holds 0x{int(given[0, 0]):02x} throughout"
    if np.array_equal(~right, given):
        return "has all its bits turned over"
    written = (given != 0).any(axis=0)
    if not written.all() and np.array_equal(np.where(written, right, 0), given):
        at = np.flatnonzero(~written)
        return f"is 0 in {'byte' if len(at) == 1 else 'bytes'} {_places(at)}, and right elsewhere"
    return ""


def _from_other(layout: Layout, field: Field, given: np.ndarray, blocks: np.ndarray) -> str:
    for other in layout.fields:
        if other.name != field.name and other.size == field.size:
            if np.array_equal(given, blocks[:, layout.span(other.name)]):
                return f"holds what belongs in {other.name}"
    return ""


def _orders(field: Field, right: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers of a field, and its nibbles, in other orders."""
    numbers = right.reshape(len(right), field.count, -1)
    if field.count >= 2:
        for order in orders(field.count).values():
            yield f"Writes the numbers {order.says}", numbers[:, order.taken].reshape(right.shape)
        if field.count <= NUMBERS:
            for i in range(field.count):
                for j in range(i):
                    at = np.arange(field.count)
                    at[[i, j]] = j, i
                    yield f"Exchanges the numbers {j} and {i}", numbers[:, at].reshape(right.shape)
    if field.dtype == "u8" and field.size >= 2:
        nibbles = np.stack([right & 15, right >> 4], axis=-1).reshape(len(right), -1)
        for order in orders(2 * field.size).values():
            taken = nibbles[:, order.taken].reshape(*right.shape, 2)
            yield f"Writes the nibbles {order.says}", taken[..., 0] | taken[..., 1] << 4
    if numbers.shape[-1] > 1:
        yield "Writes the high byte first in the numbers", numbers[..., ::-1].reshape(right.shape)


# BITS


def _bits(field: Field, named: str, right: np.ndarray, given: np.ndarray) -> str:
    """Each bit of a number is always another one of the same number, turned over or not, or always the same."""
    if field.dtype in ("f16", "f32"):
        return ""
    size = field.size // field.count
    expected, observed = (
        np.unpackbits(a.reshape(-1, size), axis=1, bitorder="little").astype(bool) for a in (right, given)
    )
    said = []
    for bit in range(8 * size):
        if not np.array_equal(observed[:, bit], expected[:, bit]):
            source = _source(expected, observed[:, bit])
            if not source:
                return ""
            said.append(f"bit {bit} {source}")
    # Where much is otherwise, that bits agree says little
    return f"In each number of {named}: {', '.join(said)}." if len(said) <= 4 * size else ""


def _in_places(layout: Layout, rows: Rows) -> str:
    """Each wrong bit of a block is always another one of the right block, turned over or not, or always the same."""
    expected, observed = (
        np.unpackbits(
            np.concatenate([pair[i].reshape(-1, layout.type_size) for pair in rows]), axis=1, bitorder="little"
        ).astype(bool)
        for i in (0, 1)
    )
    if (expected != observed).any(axis=1).sum() < MANY:
        return ""
    sources: dict[bytes, str] = {}
    for bit, column in reversed(list(enumerate(expected.T))):
        sources[(~column).tobytes()] = f"what belongs in {_bit(layout, bit)}, turned over"
        sources[column.tobytes()] = f"what belongs in {_bit(layout, bit)}"
    for always in (0, 1):
        sources[np.full(len(expected), bool(always)).tobytes()] = str(always)
    wrong = np.flatnonzero((expected != observed).any(axis=0))
    found = [(bit, sources.get(observed[:, bit].tobytes())) for bit in wrong]
    if any(source is None for _, source in found):
        return ""
    if all(source == f"what belongs in {_bit(layout, int(bit))}, turned over" for bit, source in found):
        signs = [layout.field_at(int(bit) // 8) for bit in wrong]
        if all(field.dtype in ("f16", "f32") for field in signs) and (wrong % 8 == 7).all():
            return f"The sign of {' and of '.join(dict.fromkeys(field.name for field in signs))} is turned over."
        return f"Turned over: {', '.join(_bit(layout, int(bit)) for bit in wrong[:3])}{' and more' * (len(found) > 3)}."
    said = ", ".join(f"{_bit(layout, int(bit))} holds {source}" for bit, source in found[:3])
    return f"Bits stand in wrong places: {said}{f', and {len(found) - 3} more' if len(found) > 3 else ''}."


def _bit(layout: Layout, bit: int) -> str:
    field = layout.field_at(bit // 8)
    return f"bit {bit % 8} of byte {bit // 8 - layout.offset(field.name)} of {field.name}"


def _source(expected: np.ndarray, bit: np.ndarray) -> str:
    if not bit.any() or bit.all():
        return f"is always {int(bit[0])}"
    for other in range(expected.shape[1]):
        if np.array_equal(expected[:, other], bit):
            return f"holds what belongs in bit {other}"
        if np.array_equal(~expected[:, other], bit):
            return f"holds what belongs in bit {other}, turned over"
    for other in range(expected.shape[1]):
        for more in range(other):
            if np.array_equal(expected[:, other] | expected[:, more], bit):
                return f"is set where bit {more} or {other} is to be"
            if np.array_equal(expected[:, other] & expected[:, more], bit):
                return f"is set where bits {more} and {other} are both to be"
    return ""


def _places(at: np.ndarray) -> str:
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"{', '.join(texts[:3])}{' and so on' if len(texts) > 3 else ''}"
