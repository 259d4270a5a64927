"""What the vectors of dot products are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from golden import tie_blocks
from golden.vectors import hexed, test_of
from hifi_ref import dot_exact
from hifi_ref.formats import Format
from hifi_ref.formats import hard_inputs as inputs
from reference import refusals, release

Found = Iterator[tuple[str, dict[str, Any]]]


def dot_tests(f: Format, rng: np.random.Generator) -> Found:
    g = inputs.partner_of(f)
    unit = max(f.block_size, g.block_size)

    def tame(kind: Format, n: int) -> np.ndarray:
        count = n // kind.block_size
        return inputs.tame_scales(kind, inputs.random_blocks(kind, rng, count), rng)

    def test(group: str, w: np.ndarray, a: np.ndarray, *flags: str, rows: int = 1) -> tuple[str, dict[str, Any]]:
        w, a = w.reshape(rows, -1), a.reshape(-1)
        value = release.dot(f.name, w, a)
        flagged = [*flags, *(["NaN"] if np.isnan(value).any() else [])]
        stored = [] if sums_are_of_the_codes(g, a) else ["StoredSums"]
        several = {"rows": rows} if rows > 1 else {}
        found = test_of([*flagged, *stored], w=hexed(w), a=hexed(a), expected=hexed(value), **several)
        return group, found | ({} if stored else judged(f, w, a))

    n = unit if unit > 1 else 32
    for _ in range(3):
        a = release.encode(g.name, inputs.weights("gauss", rng, 1, n))
        yield test("one block", tame(f, n), a)
    for byte in (0x00, 0x7F, 0xFF):
        w = inputs.tame_scales(f, np.full((n // f.block_size, f.type_size), byte, np.uint8), rng)
        a = inputs.tame_scales(g, np.full((n // g.block_size, g.type_size), 0x7F, np.uint8), rng)
        yield test("largest codes", w, a, "Saturating")
    w, a = tame(f, n), release.encode(g.name, inputs.weights("gauss", rng, 1, n))
    b = release.encode(g.name, -inputs.weights("gauss", rng, 1, n))
    opposite = release.encode(g.name, -release.decode(g.name, a).reshape(1, -1))
    for order in ([a, b, opposite], [b, a, opposite]):
        parts = [part.reshape(-1) for part in order]
        yield test("cancellation", np.concatenate([w] * 3), np.concatenate(parts), "Cancellation")
    n = 8 * unit if unit > 1 else 256
    for family in ("gauss", "mixed scales"):
        a = release.encode(g.name, inputs.weights(family, rng, 1, n))
        yield test("long rows", tame(f, n), a, "LongRow")
    if f.name != "F32":
        n = unit if unit > 1 else 32
        yield test("any scale", inputs.random_blocks(f, rng, n // f.block_size), tame(g, n), "RandomBytes")

    n = min(16 * unit, 2048) if unit > 1 else 256
    for family in ("gauss", "real", "heavy tails"):
        a = release.encode(g.name, inputs.weights(family, rng, 1, n))
        yield test("long rows", of_like_scales(f, tame(f, n), rng), a, "LongRow")
    if f.encode is not None and not f.requires_weights and not refusals.may_refuse(f.name):
        for _ in range(2):
            x = inputs.weights("gauss", rng, 1, n)
            yield test("a row with itself", release.encode(f.name, x), release.encode(g.name, x), "LongRow")
    w = of_like_scales(f, tame(f, n), rng)
    if "qs" in f.layout.names:
        w[:, f.layout.span("qs")] = 0x77
    yield test("long rows", w, release.encode(g.name, rng.uniform(0.5, 1, (1, n))), "LongRow", "Saturating")
    if f.name == "MXFP4":
        # The largest steps, but for one that is odd, and only three blocks: a product that was rounded shows
        for _ in range(4):
            w = np.full((3, f.type_size), 0x77, np.uint8)
            w[:, :2] = 124, 0x71
            yield test("products of 27 bits", w, release.encode(g.name, rng.uniform(0.5, 1, (1, 3 * 32))), "LongRow")
    n = unit if unit > 1 else 32
    if g.name != f.name or f.name == "Q8_0":
        for byte in (0x00, 0x77, 0x80, 0x88, 0xFF, None):
            count = n // f.block_size
            w = inputs.random_blocks(f, rng, count) if byte is None else np.full((count, f.type_size), byte, np.uint8)
            w = inputs.tame_scales(f, w, rng)
            yield test("activations of -128", w, lowest_activations(g, n, rng), "Saturating", "LowestActivation")
    if any(field.dtype == "f16" for field in f.layout.fields):
        for _ in range(2):
            a = release.encode(g.name, inputs.weights("gauss", rng, 1, n))
            yield test("subnormal scale", with_subnormal_scales(f, tame(f, n), rng), a, "SubnormalScale")
    n = 3 * unit if unit > 1 else 96
    a = release.encode(g.name, inputs.weights("gauss", rng, 1, n))
    yield test("several rows", of_like_scales(f, tame(f, 3 * n), rng), a, "SeveralRows", rows=3)

    yield from rare_scales(f, rng, test)
    for number in tie_blocks.numbers(f, "dot"):
        w, a = tie_blocks.drawn(f, "dot", number)
        yield test("ties of the definition", w, a, "RoundingTie", "SeveralRows", rows=len(w))
    if g.name == "Q8_K":
        yield more_blocks_than_lanes(f, np.random.default_rng([f.type_id, 12]), test)
    if g.name in ("Q8_0", "Q8_1", "Q8_K"):
        yield from of_kernels(f, np.random.default_rng([f.type_id, 7]), test)


def rare_scales(f: Format, rng: np.random.Generator, test: Callable[..., tuple[str, dict[str, Any]]]) -> Found:
    """Scales that are no numbers, sums that are subnormal, and more blocks than a processor has lanes."""
    g = inputs.partner_of(f)
    unit = max(f.block_size, g.block_size)
    if unit == 1:
        return

    def pair(count: int) -> tuple[np.ndarray, np.ndarray]:
        w = inputs.usual_blocks(f, rng, count * unit // f.block_size)
        return of_like_scales(f, w, rng), release.encode(g.name, inputs.weights("gauss", rng, 1, count * unit))

    for field in f.layout.fields:
        for half in (0x7C00, 0xFC01) if field.dtype == "f16" else ():
            w, a = pair(1)
            w[-1, f.layout.offset(field.name) :][:2] = np.array([half], "<u2").view(np.uint8)
            yield test("scales that are no numbers", w, a, "InfiniteScale")
    if f.name == "IQ1_M":
        for nibbles in ((0, 0, 0x10, 0), (0, 0, 0xC0, 0x70), (0x10, 0, 0xC0, 0xF0)):
            w, a = pair(1)
            at = f.layout.offset("scales")
            w[:, at + 1 : at + 8 : 2] = w[:, at + 1 : at + 8 : 2] & 0x0F | np.array(nibbles, np.uint8)
            yield test("scales that are no numbers", w, a, "InfiniteScale")
    if g.name == "Q8_K":
        for power in (-126, -133, -140):
            w, a = pair(2)
            blocks = a.reshape(-1, g.type_size)
            blocks[:, :4] = np.array([1.7 * 2.0**power], "<f4").view(np.uint8)
            yield test("faint activations", w, blocks, "FaintSums")
        for _ in range(3):
            yield test("more blocks than lanes", *pair(12), "LongRow", "OrderOfAdditions")
        if "dmin" in f.layout.names:
            w, a = pair(12)
            w[:, f.layout.span("qs")] = 0
            yield test("mins alone", w, a, "LongRow", "OrderOfAdditions")
    if f.name == "MXFP4":
        for least in (0, 16):
            w, a = pair(4)
            w[:, 0] = rng.integers(least, least + 3, len(w))
            blocks = a.reshape(-1, g.type_size)
            blocks[:, :2] = rng.integers(0x0001, 0x0400, (len(blocks), 1)).astype("<u2").view(np.uint8)
            yield test("faint products", w, blocks, "FaintSums")
        w, a = pair(2)
        w[:, 0], w[:, 1:] = 0x88, 0x44
        yield test("one code alone", w, a)
    if not any(field.dtype == "f16" for field in f.layout.fields) and g.name == "Q8_0":
        w, a = pair(1)
        a.reshape(-1, g.type_size)[:, :2] = np.array([0x7C00], "<u2").view(np.uint8)
        yield test("scales that are no numbers", w, a, "InfiniteScale")


def more_blocks_than_lanes(
    f: Format, rng: np.random.Generator, test: Callable[..., tuple[str, dict[str, Any]]]
) -> tuple[str, dict[str, Any]]:
    """Of formats with mins these alone, so that nothing hides in which order their shares are added."""
    w = inputs.usual_blocks(f, rng, 8 * 12)
    for codes in {"qs", "qh"}.intersection(f.layout.names if "dmin" in f.layout.names else ()):
        w[:, f.layout.span(codes)] = 0
    a = release.encode("Q8_K", inputs.weights("gauss", rng, 1, 12 * f.block_size))
    return test("more blocks than lanes", w, a, "LongRow", "OrderOfAdditions", "SeveralRows", rows=8)


def of_kernels(f: Format, rng: np.random.Generator, test: Callable[..., tuple[str, dict[str, Any]]]) -> Found:
    """What a kernel may hold in too few bits, and blocks that are left over where it takes several at a time."""
    g = inputs.partner_of(f)
    unit = max(f.block_size, g.block_size)
    w = of_like_scales(f, inputs.usual_blocks(f, rng, 7 * unit // f.block_size), rng)
    yield test("blocks left over", w, release.encode(g.name, inputs.weights("gauss", rng, 1, 7 * unit)), "LongRow")
    # The largest codes and scales, or rows of a grid that are as good as largest; each activation has its weight's sign
    byte = 0xFC if f.name == "IQ3_S" else 0xFF
    w = inputs.tame_scales(f, np.full((unit // f.block_size, f.type_size), byte, np.uint8), rng)
    signs = np.where(release.decode(f.name, w.reshape(1, -1)) < 0, np.float32(-1), np.float32(1))
    yield test("largest sums", w, release.encode(g.name, signs), "Saturating")
    if g.name == "Q8_1":
        x = inputs.weights("gauss", rng, 1, unit) * np.float32(1e-5)
        yield test("faint activations", inputs.usual_blocks(f, rng, 1), release.encode(g.name, x), "FaintSums")


def of_like_scales(f: Format, blocks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """MXFP4 blocks whose powers of two are of like size, so that each of them counts; others as they are."""
    if f.name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 126, len(blocks))
    return blocks


def judged(f: Format, w: np.ndarray, a: np.ndarray) -> dict[str, str]:
    """The correctly rounded true value, and what a float32 kernel that adds in another order may be off from it."""
    if not np.isfinite(release.decode(f.name, w.reshape(-1, f.type_size))).all():
        return {}
    g = inputs.partner_of(f)
    if g.block_size > 1 and not np.isfinite(g.layout.by_name(a.reshape(-1, g.type_size))["d"]).all():
        return {}
    found = dot_exact(f.name, w, a)
    # The kernel's own share, what rounding the true value has cost, and a last step up: a bound must not shrink.
    error = (found.bound + abs(found.high - found.value) + abs(found.low)).astype(np.float32)
    if not np.isfinite(error).all():
        return {}
    return {"exact": hexed(found.value), "bound": hexed(np.nextafter(error, np.float32(np.inf)))}


def sums_are_of_the_codes(g: Format, a: np.ndarray) -> bool:
    """Whether stored sums, of formats that have them, are those that an encoder would store."""
    if g.name not in ("Q8_1", "Q8_K"):
        return True
    fields = g.layout.by_name(a.reshape(-1, g.type_size))
    codes = fields["qs"].astype(np.int64)
    if g.name == "Q8_K":
        return bool((codes.reshape(-1, 16, 16).sum(axis=-1) == fields["bsums"]).all())
    # s is rounded twice: the scale before it was narrowed times the sum
    with np.errstate(all="ignore"):
        ideal = codes.sum(axis=-1) * fields["d"].astype(np.float64)
        return bool((abs(ideal - fields["s"]) <= 2.0**-10 * abs(ideal) + 2.0**-24).all())


def lowest_activations(g: Format, n: int, rng: np.random.Generator) -> np.ndarray:
    """Blocks of activations whose codes are all -128, with the sums that these have."""
    blocks = inputs.tame_scales(g, np.full((n // g.block_size, g.type_size), 0x80, np.uint8), rng)
    if g.name == "Q8_K":
        blocks[:, g.layout.span("bsums")] = np.full(16, -128 * 16, "<i2").view(np.uint8)
    if g.name == "Q8_1":
        d = g.layout.unpack(blocks)[0]
        blocks[:, 2:4] = (d * np.float32(-128 * 32)).astype("<f2").reshape(-1, 1).view(np.uint8)
    return blocks


def with_subnormal_scales(f: Format, blocks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The blocks with f16 fields that are subnormal, of both signs."""
    blocks = blocks.copy()
    for field in f.layout.fields:
        if field.dtype == "f16":
            halves = rng.integers(1, 0x400, len(blocks)) | rng.integers(0, 2, len(blocks)) << 15
            blocks[:, f.layout.span(field.name)] = halves.astype("<u2").reshape(-1, 1).view(np.uint8)
    return blocks
