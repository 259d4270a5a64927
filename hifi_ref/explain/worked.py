"""The block that a format's page takes apart: fixed weights, what the encoder makes of them, and one weight by hand."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.explain import effects, places
from hifi_ref.explain.reading import read
from hifi_ref.explain.steps import Step, grid_of, steps
from hifi_ref.formats import FORMATS, codebooks

# Steps that only name what was read from the bytes.
READ = re.compile("the (float|byte|number|positions)")


class Worked(NamedTuple):
    """A block of a format: what went in, its bytes, the steps back to weights, and whose importance was all ones."""

    name: str
    weights: np.ndarray
    importance: bool
    block: np.ndarray
    steps: list[Step]

    @property
    def decoded(self) -> np.ndarray:
        """f32[block_size]"""
        return self.steps[-1].values


def made_weights(count: int) -> np.ndarray:
    """f32[count] that look like a model's: a spread of 0.02, four decimals, and one in some hundred far out.

    Made of integers alone, so that every NumPy makes the same.
    """
    words = np.random.PCG64(4).random_raw(256)
    parts = [(words >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)]
    body = (parts[0] + parts[1] - parts[2] - parts[3]) // 200
    far = np.where(parts[3] % 100 == 0, 4 * body, body)
    return (far[:count].astype(np.float64) / 10000).astype(np.float32)


def worked(name: str) -> Worked:
    """The worked block of a format."""
    f = FORMATS[name]
    x = made_weights(f.block_size)
    importance = np.ones_like(x) if f.requires_weights else None
    block = api.encode(name, x, importance, lane="numpy")
    return Worked(name, x, f.requires_weights, block, steps(name, block))


def number(value: float | np.floating | np.integer | int) -> str:
    """The shortest decimal that means this binary32, or an integer."""
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    single = np.float32(value)
    if single == 0 or 1e-5 <= abs(single) < 1e6:
        return np.format_float_positional(single, trim="-")
    return str(single)


# ONE WEIGHT BY HAND


def by_hand(work: Worked, weight: int) -> list[tuple[str, str]]:
    """Lines of how one weight is decoded: what is read or computed, and how.

    First the numbers that have a part in it, each from its bytes, then the steps with these numbers put in.
    """
    return [*_numbers_read(work, weight), *_steps_taken(work, weight)]


def _numbers_read(work: Worked, weight: int) -> list[tuple[str, str]]:
    lines = []
    values = read(work.name, work.block)
    for numbers in places.numbers_of(work.name):
        for index in _that_move(work, numbers, weight):
            several = len(numbers.bits) > 1
            title = f"{numbers.kind}[{index}]" if several else numbers.kind
            lines.append((title, _read_from(work.block, numbers, index, values[numbers.kind][index])))
    return lines


def _that_move(work: Worked, numbers: places.Numbers, weight: int) -> list[int]:
    """The numbers of a kind that have a part in a weight."""
    if not numbers.kind.startswith("outlier"):
        moves = effects.weights_of(work.name, numbers)
        return [i for i, weights in enumerate(moves) if weight in weights]
    slots = _slots(work, weight)
    if numbers.kind in ("outlier at", "outlier values"):
        return slots
    return [0] if slots and numbers.kind != "outlier pad" else []


def _slots(work: Worked, weight: int) -> list[int]:
    """The slots in use that name a weight."""
    at = next((step.values for step in work.steps if step.name == "at[k]"), np.array([], int))
    return np.flatnonzero(at == weight).tolist()


def _read_from(block: np.ndarray, numbers: places.Numbers, index: int, value: Any) -> str:
    """From which bits of which bytes a number comes, and what they make."""
    bits = numbers.bits[index]
    pieces: list[list[int]] = []
    for k, bit in enumerate(bits.tolist()):
        if pieces and bit == pieces[-1][1] + 1 and bit % 8:
            pieces[-1][1] = bit
        else:
            pieces.append([bit, bit, k])
    if numbers.dtype in ("f16", "f32"):
        data = " ".join(f"{block[low // 8]:02x}" for low, _, _ in pieces)
        where = (
            f"bytes {bits[0] // 8}-{bits[-1] // 8}" if np.array_equal(bits, range(bits[0], bits[0] + len(bits))) else ""
        )
        return f"{where or 'four nibbles'}: {data}, {float_parts(block, bits)} = {number(value)}"
    read = []
    for low, high, first in pieces:
        part = int(block[low // 8]) >> low % 8 & (1 << high - low + 1) - 1
        span = "" if high - low == 7 else f", bits {low % 8}-{high % 8}" if high > low else f", bit {low % 8}"
        read.append(f"{f'{1 << first} * ' if first else ''}(byte {low // 8} = {block[low // 8]:#04x}{span}: {part})")
    unsigned = sum((int(block[bit // 8]) >> bit % 8 & 1) << k for k, bit in enumerate(bits.tolist()))
    signed = f", minus {1 << len(bits)}" if unsigned != int(value) else ""
    return f"{' + '.join(read)}{signed} = {int(value)}"


def float_parts(block: np.ndarray, bits: np.ndarray) -> str:
    """A binary16 or binary32 as sign, exponent and mantissa."""
    word = sum((int(block[bit // 8]) >> bit % 8 & 1) << k for k, bit in enumerate(bits.tolist()))
    exponent_bits, mantissa_bits = (5, 10) if len(bits) == 16 else (8, 23)
    bias = (1 << exponent_bits - 1) - 1
    sign, exponent = word >> exponent_bits + mantissa_bits, word >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa, whole = word & (1 << mantissa_bits) - 1, 1 << mantissa_bits
    minus = "-" if sign else ""
    if exponent == 0:
        return f"the word {word:#0{len(bits) // 4 + 2}x}: {minus}{mantissa}/{whole} * 2^{1 - bias}"
    return f"the word {word:#0{len(bits) // 4 + 2}x}: {minus}(1 + {mantissa}/{whole}) * 2^({exponent} - {bias})"


def _steps_taken(work: Worked, weight: int) -> list[tuple[str, str]]:
    known: dict[str, str] = {}
    lines = []
    for step in work.steps:
        slots = _slots(work, weight) if "[k]" in step.name else None
        if slots == [] or step.name == "at[k]":
            continue
        index = slots[-1] if slots else _index(work, step, weight)
        value = number(step.values[index])
        name = _placed(work.name, step.name, weight, index)
        if not READ.match(step.formula):
            lines.append((name, f"{_how(work, step, weight, known)} = {value}"))
        known[step.name] = f"({value})" if value.startswith("-") else value
    return lines


def _index(work: Worked, step: Step, weight: int) -> int:
    """Which of a step's values serves a weight."""
    if step.name == "byte":
        return _that_move(work, places.numbers_of(work.name)[0], weight)[0]
    return weight * len(step.values) // FORMATS[work.name].block_size


def _how(work: Worked, step: Step, weight: int, known: dict[str, str]) -> str:
    """The formula of a step with the values of earlier ones in it, and what a table or a sign says."""
    if step.name == "GRID[row[g]]":
        row = grid_row(work.name, int(known["row[g]"]))
        return f"row {known['row[g]']} is {' '.join(map(str, row))}: number {weight % len(row)}"
    if step.name == "STEPS[q[j]]":
        return f"STEPS[{known['q[j]']}]"
    if step.name == "q[j]":
        turn = int(np.flatnonzero(_sharing(work, weight) == weight)[0])
        return f"whole part of 3 * ({known['byte']} * 3^{turn} mod 256) / 256"
    if step.name == "v[j]" and "with minus" in step.formula:
        signs = known.get("signs[g]", known["sign[g]"])
        bit = int(signs) >> weight % 8 & 1
        return f"{known['GRID[row[g]]']} with {'minus' if bit else 'plus'}, as bit {weight % 8} of {signs} is {bit}"
    formula = step.formula
    if " where at[k] = j" in formula:
        formula = formula.split(" where ")[0] if _slots(work, weight) else "base[j], as no slot names it"
    names = sorted(known, key=len, reverse=True)
    if not names:
        return formula
    pattern = "|".join(rf"(?<![\w\[]){re.escape(name)}(?!\w)" for name in names)
    return re.sub(pattern, lambda found: known[found[0]], formula)


def _sharing(work: Worked, weight: int) -> np.ndarray:
    """The weights whose digits a weight's byte holds, in the order of the digits."""
    moves = effects.weights_of(work.name, places.numbers_of(work.name)[0])
    return next(weights for weights in moves if weight in weights)


def _placed(format: str, name: str, weight: int, index: int) -> str:
    """A step's name with this weight's indexes in place of s, g, k and j."""
    if name == "GRID[row[g]]":
        return f"GRID[row[{weight // len(grid_row(format, 0))}]]"
    name = name.replace("[j]", f"[{weight}]")
    return re.sub(r"\[[sgk]\]", f"[{index}]", name)


def rows_used(work: Worked) -> list[tuple[int, np.ndarray]]:
    """The rows of the grid that a block names, ascending, each with its number; none for formats without a grid."""
    named = next((step.values for step in work.steps if step.name == "row[g]"), np.array([], int))
    return [(int(row), grid_row(places.base_of(work.name), int(row))) for row in np.unique(named)]


def grid_row(name: str, row: int) -> np.ndarray:
    """A row of a format's grid."""
    return codebooks.grid(grid_of(name))[row]
