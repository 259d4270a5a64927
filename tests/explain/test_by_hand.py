"""Every line of a weight decoded by hand is true: the bytes it names, the bits it takes, and its sums."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hifi_ref.explain import worked
from hifi_ref.formats import FORMATS

PIECE = re.compile(r"\(byte (\d+) = (0x[0-9a-f]{2})(?:, bits? (\d)(?:-(\d))?)?: (\d+)\)")
FLOAT = re.compile(r"(?:bytes (\d+)-(\d+)|four nibbles): ([0-9a-f ]+), the word (0x[0-9a-f]+): (.*)")
SUM = re.compile(r"[-+*/()\d.e ^]+")
# Lines that are no sums: they look a table up, or say in words what bits mean.
WORDS = re.compile(
    r"row \d|STEPS\[|half the|the e4m3|-1/8 where|and an eighth bit|whole part|\d+ with |"
    r".*as no slot|.*read as a binary32"
)


def value_of(text: str) -> np.float32:
    """What a sum of a page comes to in binary32, each operation rounded."""
    numbers = re.sub(r"2\^\(?(-?\d+)(?: - (\d+)\))?", lambda m: repr(2.0 ** (int(m[1]) - int(m[2] or 0))), text)
    return eval(re.sub(r"\d+(?:\.\d+)?(?:e-?\d+)?", r"f('\g<0>')", numbers), {"f": np.float32})


def check(block: np.ndarray, how: str) -> bool:
    """Hold one line against the block and against itself; whether there was anything to compute."""
    left, _, shown = how.rpartition(" = ")
    found = FLOAT.fullmatch(left)
    if found:
        first, last, data, word, left = found.groups()
        if first is not None:
            raw = block[int(first) : int(last) + 1]
            assert raw.tobytes().hex(" ") == data and int.from_bytes(raw.tobytes(), "little") == int(word, 16)
    for byte, value, low, high, part in PIECE.findall(left):
        assert block[int(byte)] == int(value, 16)
        first = int(low or 0)
        width = int(high) - first + 1 if high else 1 if low else 8
        assert int(value, 16) >> first & (1 << width) - 1 == int(part)
    left = PIECE.sub(r"\5", left).replace(", minus ", " - ")
    if not SUM.fullmatch(left):
        return False
    assert value_of(left) == np.float32(shown), how
    return True


@pytest.mark.parametrize("name", FORMATS)
def test_every_line_is_true(name: str) -> None:
    work = worked.worked(name)
    size = FORMATS[name].block_size
    for weight in dict.fromkeys(
        [0, size // 3, size - 1, *(step.values[0] for step in work.steps if "at[" in step.name)]
    ):
        for _, how in worked.by_hand(work, int(weight)):
            assert check(work.block, how) or WORDS.match(how), how


def test_rows_and_signs_are_those_of_the_grid() -> None:
    work = worked.worked("IQ2_XXS")
    for weight in range(0, 256, 5):
        lines = dict(worked.by_hand(work, weight))
        (row,) = (how for name, how in lines.items() if name.startswith("GRID"))
        number, values, at, value = re.fullmatch(r"row (\d+) is ([\d ]+): number (\d) = (\d+)", row).groups()
        assert worked.grid_row("IQ2_XXS", int(number)).tolist() == [int(v) for v in values.split()]
        assert values.split()[int(at)] == value
        signed = re.fullmatch(
            r"(\d+) with (minus|plus), as bit (\d) of (\d+) is ([01]) = (-?\d+)", lines[f"v[{weight}]"]
        )
        size, sign, bit, byte, one, result = signed.groups()
        assert int(byte).bit_count() % 2 == 0 and int(byte) >> int(bit) & 1 == int(one) == (sign == "minus")
        assert int(result) == (-int(size) if sign == "minus" else int(size))
