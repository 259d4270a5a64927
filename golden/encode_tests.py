"""What the vectors of encoding are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from golden import hard_rows, near_misses, places, roundings, spanning, weights
from golden.vectors import hexed, test_of, trace
from hifi_ref.formats import Format
from hifi_ref.formats import hard_inputs as inputs
from reference import refusals, release

Found = Iterator[tuple[str, dict[str, Any]]]

TIE_ROWS = Path(__file__).resolve().parent / "tie_rows.json"
WRAPPED_SCALE = Path(__file__).resolve().parent.parent / "tests" / "data" / "wrapped_scale.npz"


def encode_tests(f: Format, rng: np.random.Generator) -> Found:
    n = max(f.block_size, 32)

    def test(
        group: str, x: np.ndarray, importance: np.ndarray | None, *flags: str, traced: bool = False, rows: int = 1
    ) -> Found:
        blocks, accepted = refusals.encode_or_refuse(f.name, x.reshape(rows, -1), importance)
        if not accepted.all():
            return
        undefined = weights.undefined_in_c(f, x.reshape(1, -1))[0]
        found = test_of(
            [*flags, *(["InfiniteInverse"] if undefined else [])], "undefined-in-c" if undefined else "valid",
            weights=hexed(x), importance=None if importance is None else hexed(importance), expected=hexed(blocks),
            **({"rows": rows} if rows > 1 else {}),
        )  # fmt: skip
        yield group, found | ({"trace": trace(f.name, blocks.reshape(-1, f.type_size))} if traced else {})

    cases = {
        "random weights": ("gauss", []), "near ties": ("near ties", ["NearTie"]),
        "equal magnitudes": ("one magnitude", ["EqualMagnitudes"]), "all equal": ("constant", ["EqualMagnitudes"]),
        "signed zeros": ("signed zeros", ["SignedZero"]), "subnormal weights": ("subnormal", ["Subnormal"]),
        "huge weights": ("overflow", ["Overflow"]), "scale beyond binary16": ("gauss 1e+12", ["Overflow"]),
        "one spike": ("spike", ["Spike"]),
    }  # fmt: skip
    ones = np.ones(n, np.float32) if f.requires_weights else None
    traced = bool(places.bits(f.name))
    for group, (family, flags) in cases.items():
        yield from test(group, inputs.weights(family, rng, 1, n)[0], ones, *flags, traced=traced and family == "gauss")
    for kind, flags in (("lognormal", ["Importance"]), ("sparse", ["Importance", "ZeroImportance"])):
        x = inputs.weights("gauss", rng, 1, n)[0]
        yield from test(
            f"{kind} importance", x, inputs.importance(kind, int(rng.integers(1 << 30)), n), *flags,
            traced=traced and kind == "lognormal",
        )  # fmt: skip

    for family in ("gauss", "real", "mixed scales", "heavy tails", "sparse", "positive", "edge of subnormal"):
        flags = {"mixed scales": ["MixedScales"], "edge of subnormal": ["Subnormal"]}.get(family, [])
        yield from test(f"{family} weights", inputs.weights(family, rng, 1, n)[0], ones, *flags)
    for x in weights.ties(f, n):
        yield from test("ties", x, ones, "Tie")
    if (x := weights.fused_ties(f, rng, n)) is not None:
        yield from test("ties when fused", x, ones, "FusedTie")
    for special in (
        weights.scale_ties(f), weights.exponents(f, rng), weights.mean_ties(f), weights.empty_sub_blocks(f, rng)
    ):  # fmt: skip
        for group, flags, x in special:
            yield from test(group, x, ones, *flags)
    if (x := weights.whole_floats(f)) is not None:
        yield from test("ties and ends of the range", x, ones, "Tie", "Subnormal", "Overflow")
    for x in representable(f, rng, n):
        yield from test("representable weights", x, ones, "Representable")
    for x in of_subnormal_scale(f, rng, ones, n):
        yield from test("subnormal scale", x, ones, "SubnormalScale")
    if f.name in weights.UNDEFINED_BELOW:
        # Just above, where some weights of a block are subnormal
        x = rng.uniform(-1, 1, n) * 2.0**-128 * weights.UNDEFINED_BELOW[f.name] * 1.5
        x[5::32] = 2.0**-128 * weights.UNDEFINED_BELOW[f.name] * 1.5
        x[6::32] = -(2.0**-126.5)
        yield from test("smallest defined scale", x.astype(np.float32), ones, "Subnormal")
    for kind, flags in (("lognormal", ["Importance"]), ("sparse", ["Importance", "ZeroImportance"])):
        rows = max(n, 128)
        x = inputs.weights("mixed scales" if rows < 256 else "real", rng, 1, rows)[0]
        flagged = [*flags, "SeveralBlocks"] if rows > f.block_size > 1 else flags
        yield from test(f"{kind} importance", x, inputs.importance(kind, int(rng.integers(1 << 30)), rows), *flagged)
    if f.name == "Q2_K":
        with np.load(WRAPPED_SCALE) as kept:
            yield from test(
                "wrapped scale", kept["x"].reshape(256), kept["w"].reshape(256), "Importance", "WrappedScale"
            )
    for x in roundings.half_ties(f, f.block_size):
        yield from test("ties of the scale", x, ones, "ScaleTie")
    if (x := roundings.quotient_ties(f, rng, f.block_size)) is not None:
        yield from test("quotients and products with the inverse", x, ones, "QuotientTie")
    if f.block_size > 1:
        yield from several(f, rng, test)
    found = [("near misses", "NearMiss", recipe) for recipe in near_misses.recipes(f)]
    found += [("ties of the definition", "Tie", recipe) for recipe in near_misses.recipes(f, TIE_ROWS)]
    for group, flag, recipe in found:
        x, importance = hard_rows.row(f, recipe)
        flags = [] if importance is None or f.requires_weights else ["Importance"]
        flags += ["SeveralBlocks"] if recipe.blocks > 1 else []
        yield from test(group, x, importance, flag, *flags)


def several(f: Format, rng: np.random.Generator, test: Callable[..., Found]) -> Found:
    """Rows of several blocks, and several rows, without importance where that may be, and with it."""
    blocks = spanning.blocks_a_row(f)
    even = np.ones(blocks * f.block_size, np.float32) if f.requires_weights else None
    x = spanning.weights(f, rng, 1, blocks)
    yield from test("several blocks", x.reshape(-1), even, "SeveralBlocks")
    x = spanning.weights(f, rng, 1, blocks)
    yield from test("several blocks", x.reshape(-1), spanning.importance(f, rng, blocks), "Importance", "SeveralBlocks")
    x = spanning.weights(f, rng, 3, 2)
    flags = "Importance", "SeveralBlocks", "SeveralRows"
    yield from test("several rows", x.reshape(-1), spanning.importance(f, rng, 2), *flags, rows=3)


def representable(f: Format, rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
    """What blocks with all kinds of numbers decode to."""
    needed = places.blocks_needed(f.name)
    if not needed:
        return
    blocks = inputs.tame_scales(f, inputs.random_blocks(f, rng, needed), rng)
    values = release.decode(f.name, places.every_number(f.name, blocks))
    values = values[np.isfinite(values).all(axis=1)]
    count = n // f.block_size
    for i in np.linspace(0, len(values) - count, 6 if f.name.startswith("IQ") else 3).astype(int):
        yield values[i : i + count].reshape(-1)


def of_subnormal_scale(
    f: Format, rng: np.random.Generator, importance: np.ndarray | None, n: int
) -> Iterator[np.ndarray]:
    """Random weights of the two largest sizes, powers of two, whose f16 scales come out subnormal."""
    halves = [i for i, field in enumerate(f.layout.fields) if field.dtype == "f16"]
    found = 0
    for e in range(0, -40, -1):
        x = inputs.weights("gauss", rng, 1, n)[0] * np.float32(2.0**e)
        blocks, accepted = refusals.encode_or_refuse(f.name, x.reshape(1, -1), importance)
        fields = f.layout.unpack(blocks.reshape(-1, f.type_size))
        if accepted.all() and halves and found < 2:
            if all(((abs(fields[i]) > 0) & (abs(fields[i]) < 2.0**-14)).all() for i in halves):
                found += 1
                yield x
