"""What the tests of the bound share: blocks and activations of many kinds, and the release's builds that run here."""

from __future__ import annotations

import ctypes
import functools
import re

import numpy as np
import pytest

from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from reference import fetch, release

DOTS = [f.name for f in LLAMA_CPP.values() if f.dot is not None]
FLOATS = ("F32", "F16", "BF16")
CODED = [name for name in DOTS if name not in FLOATS]
each_dot = pytest.mark.parametrize("name", DOTS)
each_coded = pytest.mark.parametrize("name", CODED)
Rng = np.random.Generator


# DATA


@functools.cache
def pool(name: str, family: str) -> np.ndarray:
    """uint8[blocks, type_size]: weights of a family, encoded by the release, or blocks of any codes."""
    f = FORMATS[name]
    if family == "any codes" and name in CODED:
        return any_codes(f, np.random.default_rng(1), 256)
    count = 16 if name.startswith(("IQ1", "IQ2", "IQ3")) else 128
    family = "gauss" if family == "any codes" else family
    x = FAMILIES[family](np.random.default_rng(1), (count, max(f.block_size, 32))).astype(np.float32)
    qw = np.ones(x.shape[1], np.float32) if f.requires_weights else None
    return release.encode(name, x, qw).reshape(-1, f.type_size)


def any_codes(f: Format, rng: Rng, blocks: int, fill: int | None = None) -> np.ndarray:
    """Random bytes, or one, with scales of about 1; but no code of -128, which no encoder writes for these formats."""
    if fill is None:
        raw = rng.integers(0, 256, (blocks, f.type_size), dtype=np.uint8)
    else:
        raw = np.full((blocks, f.type_size), fill, np.uint8)
    for field in f.layout.fields:
        part = raw[:, f.layout.span(field.name)]
        if field.dtype == "f16":
            scales = rng.uniform(0.5, 2, (blocks, 1)) * rng.choice([-1, 1], (blocks, 1))
            part[...] = scales.astype("<f2").view(np.uint8)
        elif field.dtype == "i8" and field.name == "qs":
            part[part == 0x80] = 0x81
        elif f.name == "MXFP4" and field.name == "e":
            part[...] = rng.integers(110, 140, (blocks, 1))
        elif f.name == "IQ1_M" and field.name == "scales":
            # The top nibble of the scale: below 2, and a number.
            part[:, 7] = part[:, 7] & 0x0F | 0x30
    return raw


def rows_of(name: str, rng: Rng, rows: int, n: int, family: str = "gauss") -> np.ndarray:
    """uint8[rows, row_bytes], drawn from the pool."""
    f = FORMATS[name]
    blocks = pool(name, family)
    return blocks[rng.integers(0, len(blocks), (rows, n // f.block_size))].reshape(
        rows, n // f.block_size * f.type_size
    )


def activations(name: str, rng: Rng, n: int, family: str = "gauss", scale: float = 1) -> np.ndarray:
    """uint8[row_bytes of the partner], encoded by the release."""
    x = FAMILIES[family](rng, (1, n)) * scale
    return release.encode(FORMATS[name].dot_with, x.astype(np.float32))[0]


def cancelling(name: str, rng: Rng, rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose second half repeats the first, and activations whose second half is minus the first."""
    partner = FORMATS[FORMATS[name].dot_with]
    half = rows_of(name, rng, rows, n // 2)
    a = activations(name, rng, n // 2).reshape(-1, partner.type_size)
    minus = a.copy()
    # The sign bit of each scale, of Q8_1's sum too; of each float in the float formats.
    for field in partner.layout.fields:
        if field.name in ("d", "s", "w"):
            minus[:, partner.layout.offset(field.name) + field.size - 1] ^= 0x80
    return np.concatenate([half, half], axis=1), np.concatenate([a, minus]).reshape(-1)


def mixed_scales(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 3, (shape[0], 1))


FAMILIES = {
    "gauss": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: np.clip(rng.standard_cauchy(shape), -1e4, 1e4),
    "positive": lambda rng, shape: abs(rng.standard_normal(shape)),
    "spike": lambda rng, shape: np.where(rng.random(shape) < 1 / 64, 100, rng.standard_normal(shape) * 0.01),
    "mixed scales": mixed_scales,
}


def problems(name: str, seed: int, rows: int):
    """(w, a) of many kinds and lengths; an odd number of blocks among them, and 16384."""
    rng = np.random.default_rng(seed)
    for n in (256, 768, 2048):
        yield rows_of(name, rng, rows, n, "any codes"), activations(name, rng, n)
        for family in FAMILIES:
            yield rows_of(name, rng, rows, n, family), activations(name, rng, n, family)
        yield cancelling(name, rng, rows, 2 * n)
    for scale in (1e-30, 1e-36, 1e-39, 1e-7, 1e3):
        yield rows_of(name, rng, rows, 512), activations(name, rng, 512, scale=scale)
    yield rows_of(name, rng, rows // 4, 16384), activations(name, rng, 16384)


# VARIANTS


@functools.cache
def variants() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The release's builds for x86-64: those that this processor runs, and those that it does not, as they say."""
    release.base()
    runs, cannot = [], []
    for path in sorted(fetch.library_dir().glob("libggml-cpu-*.so")):
        name = re.fullmatch(r"libggml-cpu-(\w+)\.so", path.name)[1]
        (runs if ctypes.CDLL(str(path)).ggml_backend_score() > 0 else cannot).append(name)
    return tuple(runs), tuple(cannot)


def height(name: str, n: int) -> int:
    """The additions between a term and the result in the release's x86-64 kernels: the loop, and a final tree."""
    per = {"NVFP4": 16, "IQ4_XS": 32}.get(name, 256 if FORMATS[name].dot_with == "Q8_K" else 32)
    return n // per + 16
