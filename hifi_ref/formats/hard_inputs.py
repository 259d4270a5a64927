"""Weights, importance and blocks that are hard on an implementation: the same ones for the same generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hifi_ref.formats import FORMATS, Format

Rng = np.random.Generator
LARGEST = float(np.finfo(np.float32).max)


def _scaled(scale: float) -> Callable[[Rng, int, int], np.ndarray]:
    return lambda rng, rows, n: rng.standard_normal((rows, n)) * scale


def any_bits(rng: Rng, rows: int, n: int) -> np.ndarray:
    """Every finite bit pattern is as likely as any other."""
    x = rng.integers(0, 2**32, (rows, n), dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(x), x, np.float32(0))


def powers_of_two(rng: Rng, rows: int, n: int) -> np.ndarray:
    """Powers of two and their neighbours, of both signs."""
    bits = rng.integers(100, 140, (rows, n)) << 23
    return (bits + rng.integers(-1, 2, (rows, n))).astype(np.uint32).view(np.float32) * rng.choice([-1, 1], (rows, n))


def near_ties(rng: Rng, rows: int, n: int) -> np.ndarray:
    """Close to the middle between two codes of a scale that the row's largest value sets."""
    x = rng.integers(-16, 16, (rows, n)) + 0.5
    return x * (1 + rng.integers(-2, 3, (rows, n)) * 2.0**-23) * rng.choice([1 / 8, 0.1, 1 / 3, 1.7], (rows, 1))


def mixed_scales(rng: Rng, rows: int, n: int) -> np.ndarray:
    """Runs of 16 that differ by many orders of magnitude."""
    return rng.standard_normal((rows, n)) * np.repeat(10.0 ** rng.uniform(-12, 4, (rows, (n + 15) // 16)), 16, 1)[:, :n]


def faint_runs(rng: Rng, rows: int, n: int) -> np.ndarray:
    """Runs of 16 far below 1 that a few codes fit almost exactly, so that the squares of their errors underflow."""
    x = rng.integers(-3, 4, (rows, n)) * (1 + rng.integers(-2, 3, (rows, n)) * 2.0**-23)
    return x * np.repeat(10.0 ** rng.uniform(-20, -4, (rows, (n + 15) // 16)), 16, 1)[:, :n]


def spike(rng: Rng, rows: int, n: int) -> np.ndarray:
    """One weight in 64 is far larger than the others."""
    return np.where(np.arange(n) % 64 == rng.integers(0, 64, (rows, 1)), 100, rng.standard_normal((rows, n)) * 0.01)


FAMILIES: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    "gauss": _scaled(1),
    "real": _scaled(0.02),
    **{f"gauss {scale:g}": _scaled(scale) for scale in (1e-30, 1e-20, 1e-12, 1e-8, 1e-5, 1e5, 1e12, 1e20, 1e30)},
    "overflow": lambda rng, rows, n: rng.uniform(-LARGEST, LARGEST, (rows, n)),
    "heavy tails": lambda rng, rows, n: rng.standard_cauchy((rows, n)),
    "any bits": any_bits,
    "spike": spike,
    "constant": lambda rng, rows, n: np.repeat(rng.standard_normal((rows, 1)), n, 1),
    "one magnitude": lambda rng, rows, n: rng.choice([-1, 1], (rows, n)) * abs(rng.standard_normal((rows, 1))),
    "ties": lambda rng, rows, n: rng.integers(-8, 9, (rows, n)) * 0.5,
    "near ties": near_ties,
    "ternary": lambda rng, rows, n: rng.integers(-1, 2, (rows, n)) * abs(rng.standard_normal((rows, 1))),
    "signed zeros": lambda rng, rows, n: rng.choice([-0.0, 0.0], (rows, n)),
    "subnormal": _scaled(1e-41),
    "edge of subnormal": _scaled(2.0**-126),
    "powers of two": powers_of_two,
    "mixed scales": mixed_scales,
    "faint runs": faint_runs,
    "sparse": lambda rng, rows, n: rng.standard_normal((rows, n)) * (rng.random((rows, n)) < 0.03),
    "sorted": lambda rng, rows, n: np.sort(rng.standard_normal((rows, n)), axis=1),
    "positive": lambda rng, rows, n: abs(rng.standard_normal((rows, n))),
    "negative": lambda rng, rows, n: -abs(rng.standard_normal((rows, n))),
}  # fmt: skip


def weights(family: str, rng: Rng, rows: int, n: int) -> np.ndarray:
    """float32[rows, n], finite, of a family of FAMILIES."""
    return np.clip(FAMILIES[family](rng, rows, n), -LARGEST, LARGEST).astype(np.float32)


def all_weights(seed: int, rows: int, n: int) -> np.ndarray:
    """float32[families * rows, n]: every family in turn."""
    rng = np.random.default_rng(seed)
    return np.concatenate([weights(family, rng, rows, n) for family in FAMILIES])


def importance(kind: str, seed: int, n: int) -> np.ndarray | None:
    """float32[n]: "constant"; "lognormal"; "sparse", which has zeros; "steep", which also spans 24 decades.

    None for "none".
    """
    rng = np.random.default_rng(seed)
    if kind == "none":
        return None
    if kind == "constant":
        return np.full(n, np.exp(rng.standard_normal() * 2), np.float32)
    drawn = np.exp(rng.standard_normal(n) * 2)
    if kind != "lognormal":
        drawn = drawn * (rng.random(n) < 0.3)
    if kind == "steep":
        drawn = drawn * np.repeat(10.0 ** rng.uniform(-12, 12, (n + 15) // 16), 16)[:n]
    return drawn.astype(np.float32)


def importance_kinds(f: Format) -> tuple[str, ...]:
    """The kinds of importance that a format's encoder takes."""
    kinds = ("lognormal", "sparse", "steep")
    return kinds if f.requires_weights else ("none", *kinds)


def random_blocks(f: Format, rng: Rng, count: int) -> np.ndarray:
    """uint8[count, type_size]: random bytes."""
    return rng.integers(0, 256, (count, f.type_size), dtype=np.uint8)


def scale_blocks(f: Format, rng: Rng) -> np.ndarray:
    """Blocks in which every f16 field and every byte of a small field takes all its values, the rest being random."""
    parts = []
    for field in f.layout.fields:
        at = f.layout.offset(field.name)
        if field.dtype == "f16":
            blocks = random_blocks(f, rng, 65536)
            blocks[:, at : at + 2] = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)
            parts.append(blocks)
        elif field.dtype == "f32":
            blocks = random_blocks(f, rng, 4096)
            blocks[:, at : at + 4] = any_bits(rng, 4096, 1).view(np.uint8)
            parts.append(blocks)
        elif field.size <= 16:
            for byte in range(field.size):
                blocks = random_blocks(f, rng, 256)
                blocks[:, at + byte] = np.arange(256)
                parts.append(blocks)
    return np.concatenate([*parts, random_blocks(f, rng, 256)])


def tame_scales(f: Format, blocks: np.ndarray, rng: Rng) -> np.ndarray:
    """The blocks with f16 and f32 scales of moderate size, so that a dot product of them stays finite."""
    blocks = blocks.copy().reshape(-1, f.type_size)
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            values = rng.standard_normal((len(blocks), field.count)) * 2.0 ** rng.integers(-8, 3, (len(blocks), 1))
            blocks[:, f.layout.span(field.name)] = values.astype(f"<f{field.size // field.count}").view(np.uint8)
    if f.name == "IQ1_M":
        # The scale lies in the top nibbles of four words: 0x3..., below every infinity.
        at = f.layout.offset("scales")
        blocks[:, at + 7] = blocks[:, at + 7] & 0x0F | 0x30
    if f.name == "BF16":
        blocks[:, 1] = blocks[:, 1] & 0x80 | 0x3F
    return blocks


def usual_blocks(f: Format, rng: Rng, count: int) -> np.ndarray:
    """Random blocks whose dot products stay finite: uint8[count, type_size]."""
    blocks = tame_scales(f, random_blocks(f, rng, count), rng)
    if f.name == "MXFP4":
        # Its scales are powers of two: from 2^-8 to 2^7.
        blocks[:, f.layout.offset("e")] = rng.integers(120, 136, count)
    return blocks


def partner_of(f: Format) -> Format:
    """The format of the activations in a dot product."""
    assert f.dot_with is not None
    return FORMATS[f.dot_with]


def same_floats(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where bits agree; one NaN is as good as another."""
    observed, expected = np.asarray(observed), np.asarray(expected).reshape(observed.shape)
    return (observed.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(observed) & np.isnan(expected))
