"""Decoders that take the bits of a packed number from another place: all places that are not far, tried one by one.

Where the bits of a block's numbers lie is read from golden/grids.json, apart from the decoders. A misreading puts other
bits of the block in their place, or 0 or 1, and lets the right decoder read that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from hifi_ref.commands.golden_folder import golden_folder
from hifi_ref.conform.places import places
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import SIZE
from hifi_ref.known_bugs.bug import decode
from hifi_ref.known_bugs.derived.orders import orders

# What stands in the place of a bit beside an address
ZERO, ONE = -1, -2
WORDS = {
    "code": "the codes", "scale": "the scales of sub-blocks", "min": "the mins of sub-blocks", "row": "the row numbers",
    "sign": "the signs", "shift": "the signs of the shifts", "byte": "the bytes of digits", "tail": "the last digits",
}  # fmt: skip
FAR = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 128, 256)
# The scale of a super-block of IQ1_M, in the top nibbles of four words
IQ1_M_D = np.concatenate([8 * byte + np.arange(4, 8) for byte in (49, 51, 53, 55)])[None]


class Misread(NamedTuple):
    """A wrong decoder, as known_bugs.Bug."""

    kind: str
    says: str
    run: Callable  # decode(blocks u8[n, type_size]) -> f32[n, block_size]


@functools.cache
def numbers_of(name: str) -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """Kind -> the address of each bit, int[numbers, width], lowest first; and where in a number its parts begin."""
    layout = FORMATS[name].layout
    found: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {}
    packed = json.loads((golden_folder() / "grids.json").read_bytes())["formats"][name]["numbers"]
    for kind, numbers in packed.items():
        bits = np.array([_addresses(number) for number in numbers])
        found[kind] = bits, tuple(np.cumsum([0, *numbers[0][2::3]])[:-1].tolist())
    if name == "IQ1_M":
        found["d"] = IQ1_M_D, (0, 4, 8, 12)
    for field in layout.fields:
        if field.dtype in ("f16", "f32"):
            bits = 8 * layout.offset(field.name) + np.arange(8 * SIZE[field.dtype])[None]
            found[field.name] = bits, (0,)
    return found


def _addresses(triples: list[int]) -> list[int]:
    runs = zip(triples[::3], triples[1::3], triples[2::3], strict=True)
    return [8 * byte + low + i for byte, low, count in runs for i in range(count)]


@functools.cache
def misreadings(name: str) -> tuple[Misread, ...]:
    """All of a format, each once."""
    found: dict[bytes, Misread] = {}
    size = 8 * FORMATS[name].type_size
    for kind, (bits, parts) in numbers_of(name).items():
        for low, high in _ranges(bits.shape[1], parts):
            what = _what(kind, low, high, bits.shape[1])
            for says, source in _sources(bits, low, high):
                source = np.where(source >= size, ZERO, source)
                taken = np.arange(size)
                taken[bits[:, low:high]] = source
                if (taken != np.arange(size)).any():
                    run = functools.partial(_read, name, taken)
                    found.setdefault(taken.tobytes(), Misread("bits", says.format(what), run))
        others = [(low, high) for low, high in _ranges(bits.shape[1], parts) if high - low < bits.shape[1]]
        for low, high in others:
            for to in {*range(bits.shape[1] - (high - low) + 1)} - {low}:
                says = f"Puts {_what(kind, low, high, bits.shape[1])} {abs(to - low)} bit{'s' * (abs(to - low) > 1)}"
                run = functools.partial(_put, name, bits[:, low:high], bits[:, to : to + high - low])
                misread = Misread("bits", f"{says} too {'high' if to > low else 'low'}, over what is there", run)
                found.setdefault(f"{kind} {low} {high} {to}".encode(), misread)
    if "sign" in numbers_of(name):
        for says, taken in places(FORMATS[name].block_size).items():
            run = functools.partial(_signs_taken, name, taken)
            misread = Misread("signs", says.replace("activations", "signs").replace("activation", "sign"), run)
            found.setdefault(f"signs {says}".encode(), misread)
    return tuple(found.values())


def _put(name: str, source: np.ndarray, target: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """The bits of some addresses are or-ed to those of others, and not where they belong."""
    bits = np.unpackbits(blocks.reshape(-1, FORMATS[name].type_size), axis=1, bitorder="little")
    put = bits[:, source]
    bits[:, source] = 0
    bits[:, target] |= put
    return decode(name, np.packbits(bits, axis=1, bitorder="little"))


def _signs_taken(name: str, taken: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    values = decode(name, blocks).reshape(-1, len(taken))
    return np.copysign(values, values[:, taken])


def _ranges(width: int, parts: tuple[int, ...]) -> list[tuple[int, int]]:
    """The whole number, its parts, its halves, and each bit."""
    runs = [(0, width), *zip(parts, (*parts[1:], width), strict=True)]
    if width in (4, 8, 16):
        runs += [(0, width // 2), (width // 2, width)]
    return list(dict.fromkeys([*runs, *((i, i + 1) for i in range(width))]))


def _what(kind: str, low: int, high: int, width: int) -> str:
    word = WORDS.get(kind, f"the field {kind}")
    if high - low == width:
        return word
    bits = f"bit {low}" if high - low == 1 else f"bits {low} to {high - 1}"
    return f"the high bits ({bits}) of {word}" if high == width else f"{bits} of {word}"


def _sources(bits: np.ndarray, low: int, high: int) -> Iterator[tuple[str, np.ndarray]]:
    """What is done, with a place for what it is done to, and from which address each bit comes."""
    part = bits[:, low:high]
    yield "Takes {} for 0", np.full_like(part, ZERO)
    yield "Takes {} for 1 in every bit", np.full_like(part, ONE)
    first, last = int(part.min()), int(part.max())
    for far in FAR:
        for step in (far, -far):
            says = f"Reads {{}} from {far} bit{'s' if far > 1 else ''} {'further on' if step > 0 else 'before'}"
            moved = np.where(part + step < 0, ZERO, part + step)
            yield f"{says}, and 0 beyond", np.where((moved < first) | (moved > last), ZERO, moved)
            yield says, moved
    count = len(part)
    if high - low < bits.shape[1] and bits.shape[1] > 2 and high - low > 1:
        reverse = part[:, ::-1]
        yield "Reads {} from last to first", reverse
    if count == 1:
        return
    for order in orders(count).values():
        yield f"Reads {{}} {order.says}", part[order.taken]
    at = np.arange(count)
    for run in [1 << i for i in range(1, 9) if 1 << i <= count and count % (1 << i) == 0]:
        for inner in [1 << i for i in range(9) if 1 << i < run]:
            says = f"Reads {{}} in runs of {run} that"
            yield f"{says} take {inner} over and over, going on by {inner} a run", part[at // run * inner + at % inner]
            yield f"{says} take {inner} over and over", part[at // run * run + at % inner]
        yield from _steps(part, run)


def _steps(part: np.ndarray, run: int) -> Iterator[tuple[str, np.ndarray]]:
    """Bits that lie some addresses apart, from run to run, and are taken to lie otherwise; beyond them is 0."""
    first, last = int(part.min()), int(part.max())
    for size in dict.fromkeys((1, run)):
        at = np.arange(len(part)) // size
        if len(part) <= size:
            continue
        step = int(part[size, 0] - part[0, 0])
        for other in dict.fromkeys((0, step // 2, step - 1, step + 1, 2 * step)):
            if other != step:
                source = part + (other - step) * at[:, None]
                source = np.where((source < first) | (source > last), ZERO, source)
                # What lies beyond as a whole has been tried as 0
                if not (source[at == at[-1]] == ZERO).all():
                    each = f"each {size} of them" if size > 1 else "each"
                    yield f"Reads {{}} {other} bits apart where they are {step} apart, for {each}, and 0 beyond", source


def _read(name: str, taken: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(blocks.reshape(-1, FORMATS[name].type_size), axis=1, bitorder="little")
    with_constants = np.concatenate(
        [bits, np.ones((len(bits), 1), np.uint8), np.zeros((len(bits), 1), np.uint8)], axis=1
    )
    # The last two columns are what ONE and ZERO point to
    return decode(name, np.packbits(with_constants[:, taken], axis=1, bitorder="little"))
