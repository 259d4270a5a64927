"""Where in a block each number of less than 16 bits lies, bit by bit: for filling blocks, for coverage, for traces.

`bits(name)` maps a kind of number ("code", "scale", "min", "row", "sign", "shift") to the places it has in a block: an
array [places, width] of bit numbers, lowest bit first; bit b is bit b % 8 of byte b // 8. This is stated apart from the
decoders of hifi_ref, so that each checks the other (tests/test_golden.py).
"""

from __future__ import annotations

import functools

import numpy as np


def planes(first: int, width: int, run: int, count: int) -> np.ndarray:
    """[count, width]: numbers of ``width`` bits from byte ``first`` on, in planes over runs of ``run`` bytes.

    A run holds first the lowest ``width`` bits of all its bytes, then the next ones. With a run of 1 neighbours lie
    side by side.
    """
    per_byte = 8 // width
    j = np.arange(count)
    byte = first + j // (per_byte * run) * run + j % run
    return (8 * byte + j // run % per_byte * width)[:, None] + np.arange(width)


def fields(first: int, step: int, start: int, each: int, per_word: int, count: int, width: int) -> np.ndarray:
    """[count, width]: number j lies in word j // per_word, words being ``step`` bytes apart, from bit start + each "
    "* i on."""
    j = np.arange(count)
    bit = 8 * (first + step * (j // per_word)) + start + each * (j % per_word)
    return bit[:, None] + np.arange(width)


def joined(*parts: np.ndarray) -> np.ndarray:
    """Low bits first."""
    return np.concatenate(parts, axis=1)


def _k_scales(first: int) -> dict[str, np.ndarray]:
    """Q4_K and Q5_K: eight scales and eight mins of 6 bits in twelve bytes."""
    a, b, c = (8 * (first + part + np.arange(4))[:, None] for part in (0, 4, 8))
    six, four, two = np.arange(6), np.arange(4), np.arange(2)
    return {
        "scale": np.concatenate([a + six, joined(c + four, a + 6 + two)]),
        "min": np.concatenate([b + six, joined(c + 4 + four, b + 6 + two)]),
    }


@functools.cache
def bits(name: str) -> dict[str, np.ndarray]:
    """The places of a format's numbers; none for F32, F16 and BF16."""
    return {
        "Q1_0": lambda: {"code": planes(2, 1, 1, 128)},
        "Q2_0": lambda: {"code": planes(2, 2, 1, 64)},
        "Q4_0": lambda: {"code": planes(2, 4, 16, 32)},
        "Q4_1": lambda: {"code": planes(4, 4, 16, 32)},
        "Q5_0": lambda: {"code": joined(planes(6, 4, 16, 32), planes(2, 1, 1, 32))},
        "Q5_1": lambda: {"code": joined(planes(8, 4, 16, 32), planes(4, 1, 1, 32))},
        "Q8_0": lambda: {"code": planes(2, 8, 1, 32)},
        "Q8_1": lambda: {"code": planes(4, 8, 1, 32)},
        "Q8_K": lambda: {"code": planes(4, 8, 1, 256)},
        "Q2_K": lambda: {
            "code": planes(16, 2, 32, 256), "scale": fields(0, 1, 0, 0, 1, 16, 4), "min": fields(0, 1, 4, 0, 1, 16, 4),
        },
        "Q3_K": lambda: {
            "code": joined(planes(32, 2, 32, 256), planes(0, 1, 32, 256)),
            "scale": joined(planes(96, 4, 8, 16), planes(104, 2, 4, 16)),
        },
        "Q4_K": lambda: {"code": planes(16, 4, 32, 256), **_k_scales(4)},
        "Q5_K": lambda: {"code": joined(planes(48, 4, 32, 256), planes(16, 1, 32, 256)), **_k_scales(4)},
        "Q6_K": lambda: {
            "code": joined(planes(0, 4, 64, 256), planes(128, 2, 32, 256)), "scale": planes(192, 8, 1, 16),
        },
        "IQ1_S": lambda: {
            "row": joined(planes(2, 8, 1, 32), fields(34, 2, 0, 3, 4, 32, 3)),
            "scale": fields(34, 2, 12, 0, 1, 8, 3), "shift": fields(34, 2, 15, 0, 1, 8, 1),
        },
        "IQ1_M": lambda: {
            "row": joined(planes(0, 8, 1, 32), fields(32, 1, 0, 4, 2, 32, 3)),
            "scale": fields(48, 2, 0, 3, 4, 16, 3), "shift": fields(32, 1, 3, 4, 2, 32, 1),
        },
        "IQ2_XXS": lambda: {
            "row": fields(2, 8, 0, 8, 4, 32, 8), "sign": fields(6, 8, 0, 7, 4, 32, 7),
            "scale": fields(6, 8, 28, 0, 1, 8, 4),
        },
        "IQ2_XS": lambda: {
            "row": fields(2, 2, 0, 0, 1, 32, 9), "sign": fields(2, 2, 9, 0, 1, 32, 7), "scale": planes(66, 4, 1, 16),
        },
        "IQ2_S": lambda: {
            "row": joined(planes(2, 8, 1, 32), planes(66, 2, 1, 32)), "sign": planes(34, 8, 1, 32),
            "scale": planes(74, 4, 1, 16),
        },
        "IQ3_XXS": lambda: {
            "row": planes(2, 8, 1, 64), "sign": fields(66, 4, 0, 7, 4, 32, 7), "scale": fields(66, 4, 28, 0, 1, 8, 4),
        },
        "IQ3_S": lambda: {
            "row": joined(planes(2, 8, 1, 64), planes(66, 1, 1, 64)), "sign": planes(74, 8, 1, 32),
            "scale": planes(106, 4, 1, 8),
        },
        "IQ4_NL": lambda: {"code": planes(2, 4, 16, 32)},
        "IQ4_XS": lambda: {
            "code": planes(8, 4, 16, 256), "scale": joined(planes(4, 4, 1, 8), fields(2, 2, 0, 2, 8, 8, 2)),
        },
        # Five digits of base 3 a byte, in the last four bytes four
        "TQ1_0": lambda: {"byte": planes(0, 8, 1, 48), "tail": planes(48, 8, 1, 4)},
        "TQ2_0": lambda: {"code": planes(0, 2, 32, 256)},
        "MXFP4": lambda: {"code": planes(1, 4, 16, 32), "scale": planes(0, 8, 1, 1)},
        "NVFP4": lambda: {"code": planes(4, 4, 8, 64), "scale": planes(0, 8, 1, 4)},
    }.get(name, dict)()  # fmt: skip


def read(name: str, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """uint8[n, type_size] -> for each kind of number int[n, places]."""
    raw = np.unpackbits(blocks, axis=1, bitorder="little")
    return {kind: raw[:, at] @ (1 << np.arange(at.shape[1])) for kind, at in bits(name).items()}


def write(name: str, blocks: np.ndarray, **numbers: np.ndarray) -> np.ndarray:
    """The blocks with the numbers of some kinds replaced: int[n, places] each."""
    raw = np.unpackbits(blocks, axis=1, bitorder="little")
    for kind, values in numbers.items():
        at = bits(name)[kind]
        raw[:, at] = values[..., None] >> np.arange(at.shape[1]) & 1
    return np.packbits(raw, axis=1, bitorder="little")


def blocks_needed(name: str) -> int:
    """So many that a number of up to 6 bits has each value at each place, and a wider one each value at some place."""
    return max((_turns(at) for at in bits(name).values()), default=0)


def _turns(at: np.ndarray) -> int:
    places, width = at.shape
    return 2**width if width <= 6 else -(-(2**width) // places)


def every_number(name: str, blocks: np.ndarray) -> np.ndarray:
    """Blocks, blocks_needed(name) of them, with numbers such that each value of each kind occurs; see there."""
    numbers = {}
    k = np.arange(len(blocks))[:, None]
    for i, (kind, at) in enumerate(bits(name).items()):
        places, width = at.shape
        # Odd factors that differ by kind, so that codes and scales do not go along with each other
        p = np.arange(places) if width <= 6 else np.arange(places) * _turns(at)
        numbers[kind] = ((2 * i + 1) * k + p) % 2**width if width <= 6 else (k % _turns(at) + p) % 2**width
    return write(name, blocks, **numbers)
