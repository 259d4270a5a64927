"""The first divergence of a wrong answer: block, field, expected and observed.

A wrong weight is traced back to the field that it was decoded from: the reference decoder tells which bytes of the
block the weight depends on, and which other value of one of them would give what was observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hifi_ref import api
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.conform.judge import BOUND, EXACT, Target, Verdict, agreement, compare, same
from hifi_ref.conform.line_target import NoAnswerError, NotOfferedError
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Layout

# A dot product so small is one without its scale: an exponent of 0 leaves 2^-128.
NEGLIGIBLE = 2.0**-100


@dataclass(frozen=True)
class Place:
    """Where an answer first differs: block, field ("" where unknown), and the index of the weight or byte in the block.

    A dot product sums over all blocks: there unit and index are None, and so is a block that could not be found.
    """

    block: int | None
    field: str
    unit: str | None
    index: int | None
    expected: str
    observed: str
    hint: str = ""


def first_divergence(suite: Suite, verdict: Verdict, target: Target | None = None) -> Place | None:
    """None where there was no answer to compare. A target that can still be asked tells the block of a dot product."""
    if verdict.observed is None:
        return None
    expected, observed = verdict.case.expected, verdict.observed
    at = int(np.argmin(agreement(suite, observed, expected)))
    if suite.operation == "dot":
        block, field, hint = _in_dot(suite, verdict.case, target) or (None, "", "")
        detail = f"{verdict.detail}; {hint}" if hint else verdict.detail
        return Place(block, field, None, None, show(expected[0]), show(observed[0]), detail)
    if suite.operation == "encode":
        return _in_bytes(suite.layout, expected, observed, at)
    block, index = divmod(at, suite.layout.block_size)
    field, hint = "", ""
    if suite.layout.name in FORMATS and FORMATS[suite.layout.name].layout.fields == suite.layout.fields:
        raw = verdict.case.array("blocks").reshape(-1, suite.layout.type_size)[block]
        values = observed.reshape(-1, suite.layout.block_size)[block]
        field, hint = _source(suite.layout, raw, values, index)
    return Place(block, field, "weight", index, show(expected[at]), show(observed[at]), hint)


def show(value: np.float32) -> str:
    """A number and its bits."""
    return f"{value} ({int(np.float32(value).view(np.uint32)):08x})"


def _in_bytes(layout: Layout, expected: np.ndarray, observed: np.ndarray, at: int) -> Place:
    block, byte = divmod(at, layout.type_size)
    found = layout.field_at(byte)
    start, size = layout.offset(found.name), found.size // found.count
    number = (byte - start) // size
    name = found.name if found.count == 1 else f"{found.name}[{number}]"
    first = block * layout.type_size + start + number * size
    kind = {"f16": "<f2", "f32": "<f4", "u16": "<u2", "i16": "<i2", "i8": "i1", "u8": "u1"}[found.dtype]

    def shown(raw: np.ndarray) -> str:
        part = raw[first : first + size]
        value = part.view(kind)[0]
        digits = part[::-1].tobytes().hex()
        return f"0x{digits}" if found.dtype == "u8" else f"{value} (0x{digits})"

    return Place(block, name, "byte", byte, shown(expected), shown(observed))


def _source(layout: Layout, raw: np.ndarray, observed: np.ndarray, index: int) -> tuple[str, str]:
    """The field of one block that a wrong weight speaks of, and what it was taken for.

    Of all bytes that the weight depends on, one with another value may give the observed weight: that which explains
    most weights of the block is named. Otherwise all fields that the weight depends on are.
    """
    bits = np.arange(8 * layout.type_size)
    flipped = np.repeat(raw[None], len(bits), axis=0)
    flipped[bits, bits // 8] ^= (1 << bits % 8).astype(np.uint8)
    right = _decoded(layout.name, raw[None])[0]
    depends = ~same(_decoded(layout.name, flipped)[:, index], np.broadcast_to(right[index], bits.shape))
    sources = np.unique(bits[depends] // 8)
    best, hint = 0, ""
    field = " or ".join(dict.fromkeys(layout.field_at(int(byte)).name for byte in sources))
    for byte in sources:
        trials = np.repeat(raw[None], 256, axis=0)
        trials[:, byte] = np.arange(256)
        agree = same(_decoded(layout.name, trials), np.broadcast_to(observed, (256, observed.size)))
        explained = np.where(agree[:, index], agree.sum(axis=1), 0)
        value = int(explained.argmax())
        if explained[value] > best:
            best, found = int(explained[value]), layout.field_at(int(byte))
            number = int(byte) - layout.offset(found.name)
            field = found.name if found.size == 1 or found.dtype != "u8" else f"{found.name}[{number}]"
            hint = f"as if byte {byte}, 0x{raw[byte]:02x}, were 0x{value:02x}"
    return field, hint


def _in_dot(suite: Suite, case: Case, target: Target | None) -> tuple[int, str, str] | None:
    """The first block whose product with its activations is wrong when asked for alone, and the field without which it
    is right: (block, field, hint). None where there is no such block. Blocks are numbered over all rows."""
    name, partner = suite.layout.name, FORMATS.get(suite.layout.dot_with or "")
    if target is None or name not in FORMATS or partner is None:
        return None
    f = FORMATS[name]
    unit = max(f.block_size, partner.block_size)
    ws = case.array("w").reshape(-1, unit // f.block_size * f.type_size)
    parts = np.tile(case.array("a"), case.rows).reshape(-1, unit // partner.block_size * partner.type_size)
    for number, (w, a) in enumerate(zip(ws, parts, strict=True)):
        if _dot_is_right(suite, target, w, a):
            continue
        for side, layout in (("w", f.layout), ("a", partner.layout)):
            for field in layout.fields:
                if field.dtype in ("f16", "f32") or (side == "a" and field.name == "qs"):
                    continue
                less = {"w": w.copy(), "a": a.copy()}
                less[side].reshape(-1, layout.type_size)[:, layout.span(field.name)] = 0
                # Without a scale, or the activations' codes, everything is 0 or nearly so, which says nothing.
                left = abs(api.dot(name, less["w"][None], less["a"], lane="numpy"))
                if left > NEGLIGIBLE and _dot_is_right(suite, target, less["w"], less["a"]):
                    where = field.name if side == "w" else f"{field.name} of the activations"
                    return number * (unit // f.block_size), where, f"right where {where} is 0"
        return number * (unit // f.block_size), "", ""
    return None


def _dot_is_right(suite: Suite, target: Target, w: np.ndarray, a: np.ndarray) -> bool:
    case = Case("", "", (), "valid", {"w": w, "a": a}, api.dot(suite.layout.name, w[None], a, lane="numpy"))
    try:
        return compare(suite, case, target.ask("dot", suite.layout.name, case.given, {})).outcome in (EXACT, BOUND)
    except (NoAnswerError, NotOfferedError):
        return False


def _decoded(name: str, blocks: np.ndarray) -> np.ndarray:
    return api.decode(name, blocks, lane="numpy")
