"""`python -m golden.tie_blocks FORMAT.OPERATION ...` looks for blocks on ties that no vector of decode or dot holds.

Blocks are drawn by a number each, with scales of few bits, so that exact products and sums end on ties or next to them,
and decoded or multiplied while all sites are watched (ties.py). The fewest numbers that hold what is missing are kept
in tie_blocks.json, and `python -m golden.generate` makes vectors of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from golden import ties
from golden.tie_rows import Met
from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs

FILE = Path(__file__).resolve().parent / "tie_blocks.json"
DRAWN = 1200
ROWS = 8
# Bytes of a scale -> its significant bits.
BITS = {2: 11, 4: 24}
F32 = np.float32
# So often activations are as small as makes dot products subnormal, where halves and eighths of them round.
FAINT = 0.25


def drawn(f: Format, operation: str, number: int) -> tuple[np.ndarray, ...]:
    """What is given: (blocks u8[n, type_size],), or (w u8[ROWS, bytes], a u8[bytes])."""
    rng = np.random.default_rng([f.type_id, number])
    if operation == "decode":
        return (_blocks(f, rng, max(1, 256 // f.block_size) if f.block_size > 1 else 32),)
    g = inputs.partner_of(f)
    unit = max(f.block_size, g.block_size)
    n = unit * int(rng.integers(1, 4)) if unit > 1 else 32
    w = _blocks(f, rng, ROWS * n // f.block_size).reshape(ROWS, -1)
    return w, _activations(g, rng, n // g.block_size).reshape(-1)


def _blocks(f: Format, rng: np.random.Generator, count: int, top: int = 15) -> np.ndarray:
    """u8[count, type_size]: random codes, and scales below 2^top."""
    blocks = inputs.usual_blocks(f, rng, count)
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            size = field.size // field.count
            _put(blocks[:, f.layout.span(field.name)], _scales(rng, (count, field.count), BITS[size], top), size)
    if f.name == "BF16":
        blocks[:] = _scales(rng, (count, 1), 8, top).astype("<f4").view(np.uint8)[:, 2:]
    return blocks


def _activations(g: Format, rng: np.random.Generator, count: int) -> np.ndarray:
    """Blocks whose stored sums are those of their codes, of which some are 0."""
    # Sums of codes times the scale fit a binary16
    blocks = _blocks(g, rng, count, top=3)
    if g.block_size == 1:
        return blocks
    codes = rng.integers(-127, 128, (count, g.block_size)) * (rng.random((count, g.block_size)) < rng.random())
    blocks[:, g.layout.span("qs")] = codes.astype(np.int8).view(np.uint8)
    if g.name == "Q8_1":
        d = g.layout.by_name(blocks)["d"].astype(F32)
        _put(blocks[:, g.layout.span("s")], (codes.sum(axis=1) * d.reshape(-1))[:, None], 2)
    if g.name == "Q8_K":
        if rng.random() < FAINT:
            _put(blocks[:, :4], g.layout.by_name(blocks)["d"].reshape(-1, 1) * 2.0**-120, 4)
        sums = codes.reshape(count, 16, 16).sum(axis=2).astype("<i2")
        blocks[:, g.layout.span("bsums")] = sums.view(np.uint8).reshape(count, -1)
    return blocks


def _put(part: np.ndarray, values: np.ndarray, size: int) -> None:
    part[:] = np.ascontiguousarray(values).astype(f"<f{size}").view(np.uint8).reshape(part.shape)


def _scales(rng: np.random.Generator, shape: tuple[int, ...], most: int, top: int) -> np.ndarray:
    """Numbers of both signs of so many significant bits, or of fewer, of sizes that are drawn, below 2^top."""
    bits = rng.integers(1, most + 1, shape) if rng.random() < 0.5 else most
    mantissa = 1 + np.floor(rng.random(shape) * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)
    least = int(rng.integers(-20, top - 1))
    exponents = rng.integers(least, min(least + int(rng.integers(1, 24)), top), shape)
    return mantissa * 2.0**exponents * rng.choice([-1, 1], shape)


def search(f: Format, operation: str, count: int) -> tuple[dict[int, Met], Met]:
    """The fewest numbers that together hold what the vectors lack, each with what it holds; and what none holds."""
    had = ties.of_vectors(f.name, operation)
    found = ties.met_by_each(f.name, operation, (drawn(f, operation, number) for number in range(count)))
    seen = {site: met.union(*(one.get(site, set()) for one in found)) for site, met in had.items()}
    left = {(site, tie) for site, met in had.items() for tie in ties.possible(site, seen[site]) - met}
    held = [{(site, tie) for site, met in one.items() for tie in met} for one in found]
    chosen: dict[int, Met] = {}
    while left and (most := max(range(count), key=lambda number: len(held[number] & left))) not in chosen:
        chosen[most] = held[most] & left
        left -= held[most]
    return {number: met for number, met in chosen.items() if met}, left


def numbers(f: Format, operation: str) -> list[int]:
    """Those that are kept."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    return kept.get(f"{f.name}.{operation}", [])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m golden.tie_blocks", description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="FORMAT.OPERATION", help="all decoders and dot products by default")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="how many numbers to try")
    args = parser.parse_args(argv)
    every = [f"{f.name}.{op}" for f in LLAMA_CPP.values() for op in ("decode", "dot") if getattr(f, op)]
    for cell in args.cells or every:
        name, operation = cell.split(".")
        chosen, left = search(FORMATS[name], operation, args.drawn)
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        if chosen:
            kept[cell] = sorted({*kept.get(cell, []), *chosen})
            FILE.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{cell}: {sum(map(len, chosen.values()))} ties in {len(chosen)} more, {len(left)} not found", flush=True)
        for site, tie in sorted(left):
            print(f"    {site.name[:100]}: no {' '.join(tie)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
