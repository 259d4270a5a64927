"""What the vectors of decoding are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from golden import places, spanning, tie_blocks
from golden.vectors import hexed, test_of, trace
from hifi_ref.formats import Format
from hifi_ref.formats import hard_inputs as inputs
from reference import release

Found = Iterator[tuple[str, dict[str, Any]]]

HALVES = {
    "zero": 0x0000, "negative zero": 0x8000, "smallest subnormal": 0x0001, "largest subnormal": 0x03FF,
    "smallest normal": 0x0400, "one": 0x3C00, "minus one": 0xBC00, "largest": 0x7BFF, "infinity": 0x7C00, "NaN": 0x7E00,
}  # fmt: skip
MORE_HALVES = {
    "negative smallest subnormal": 0x8001, "a subnormal": 0x0155, "negative largest subnormal": 0x83FF,
    "negative smallest normal": 0x8400, "negative largest": 0xFBFF, "negative infinity": 0xFC00, "negative NaN": 0xFE00,
    "signalling NaN": 0x7C01,
}  # fmt: skip
# bfloat16 and binary32 numbers.
BF16S = (
    0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x8080, 0x3F80, 0xBF80, 0x3FC1, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC0,
)  # fmt: skip
FLOATS = (
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x00012345, 0x807FFFFF, 0x00800000, 0x80800000, 0x3F800000,
    0xBF800000, 0x3FC12345, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000,
)  # fmt: skip


def decode_tests(f: Format, rng: np.random.Generator) -> Found:
    def test(group: str, block: np.ndarray, *flags: str, traced: bool = False) -> tuple[str, dict[str, Any]]:
        values = release.decode(f.name, block)
        flagged = [*flags, *(["NaN"] if np.isnan(values).any() else [])]
        found = test_of(flagged, blocks=hexed(block), expected=hexed(values))
        return group, found | ({"trace": trace(f.name, block)} if traced else {})

    for field in f.layout.fields:
        at = f.layout.offset(field.name)
        few = field.size <= 8 or f.block_size <= 64
        for byte in range(field.size) if few else sorted({0, 1, field.size // 2, field.size - 1}):
            block = plain_block(f)
            block[at + byte] ^= 1 << (3 * byte + 1) % 8
            yield test(f"one bit of {field.name}", block, "OneBit")
    yield from (test(*given) for given in scale_classes(f, rng, HALVES.values()))
    for field in f.layout.fields:
        if field.dtype == "u8" and field.count <= 4 and f.name in ("MXFP4", "NVFP4"):
            for value in (0, 1, 2, 7, 8, 0x3F, 0x7E, 0x7F, 0x80, 0xFE, 0xFF):
                block = inputs.random_blocks(f, rng, 1)
                block[0, f.layout.offset(field.name)] = value
                yield test(f"each class of {field.name}", block, "ScaleClass")
    # With its complement every bit is seen both ways.
    for _ in range(2):
        block = inputs.random_blocks(f, rng, 1)
        yield test("random bytes", block, "RandomBytes")
        yield test("random bytes", ~block, "RandomBytes")

    yield from (test(*given) for given in scale_classes(f, rng, MORE_HALVES.values()))
    yield from (test(*given) for given in float_classes(f, rng))
    flags = ["EachNumber", *{"MXFP4": ["EachScale"], "NVFP4": ["EachUE4M3"]}.get(f.name, [])]
    blocks = inputs.tame_scales(f, inputs.random_blocks(f, rng, places.blocks_needed(f.name)), rng)
    for i, block in enumerate(places.every_number(f.name, blocks)):
        yield test("each number at each place", block[None], *flags, traced=i == 1)
    count = spanning.blocks_a_row(f) if f.block_size > 1 else 33
    for _ in range(2):
        yield test("several blocks", spanning.blocks(f, rng, count), "SeveralBlocks")
    for number in tie_blocks.numbers(f, "decode"):
        yield test("ties of the definition", *tie_blocks.drawn(f, "decode", number), "RoundingTie")


def plain_block(f: Format) -> np.ndarray:
    """Scales of 1, every other byte 0x11."""
    block = np.full(f.type_size, 0x11, np.uint8)
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            one = np.ones(field.count, f"<f{field.size // field.count}")
            block[f.layout.span(field.name)] = one.view(np.uint8)
    return block


def scale_classes(f: Format, rng: np.random.Generator, halves: Any) -> Iterator[tuple[str, np.ndarray, str]]:
    """Random blocks in which one f16 field takes each of some values."""
    for field in f.layout.fields:
        if field.dtype == "f16":
            for half in halves:
                block = inputs.tame_scales(f, inputs.random_blocks(f, rng, 1), rng)
                block[0, f.layout.span(field.name)] = np.array([half], "<u2").view(np.uint8)
                yield f"each class of {field.name}", block, "ScaleClass"


def float_classes(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, str]]:
    """The same for binary32 and bfloat16 fields, and for the scale of IQ1_M, whose nibbles lie apart."""
    if f.name == "BF16":
        for word in BF16S:
            yield "each class of w", np.array([[word]], "<u2").view(np.uint8), "ScaleClass"
    for field in f.layout.fields:
        if field.dtype == "f32":
            for word in FLOATS:
                block = inputs.random_blocks(f, rng, 1)
                block[0, f.layout.span(field.name)] = np.array([word], "<u4").view(np.uint8)
                yield f"each class of {field.name}", block, "ScaleClass"
    if f.name == "IQ1_M":
        for half in [*HALVES.values(), *MORE_HALVES.values()]:
            block = inputs.random_blocks(f, rng, 1)
            nibbles = half >> np.array([0, 4, 8, 12]) & 15
            block[0, 49::2] = block[0, 49::2] & 15 | nibbles << 4
            yield "each class of d", block, "ScaleClass"
