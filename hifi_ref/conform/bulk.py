"""Level 2: many more cases, seeded, whose expected bits hifi_ref's own NumPy lane computes.

Decoders get every kind of scale and every byte of the small fields; encoders get every family of hard_inputs with
every kind of importance; dot products get random codes and encoded activations, of several lengths. An id names what is
drawn; the same seed draws the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hifi_ref import api
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.formats import FORMATS, Format, hard_inputs

# Blocks per decoding case.
RUN = 64
# One binary16 in so many is taken as a scale: all exponents of both signs, and 33 fractions of each.
HALVES = 31
ENCODED_VALUES = 512
# The largest magnitude, or range, in units of 2^-128, below which C's arithmetic without importance leaves what the
# language defines: the inverse of the scale is infinite, and is converted to an integer.
UNDEFINED_BELOW = {
    "Q4_0": 8, "Q5_0": 16, "Q8_0": 127, "Q8_1": 127, "Q8_K": 127, "Q4_1": 15, "Q5_1": 31, "Q2_0": 1.01, "TQ1_0": 1.01,
    "TQ2_0": 1.01, "MXFP4": 8,
}  # fmt: skip
# Above it the release's grid searches end their process.
LARGEST_SEARCHED = 1e10


def with_bulk(suite: Suite, seed: int) -> Suite:
    """The suite with the cases of level 2 behind its own; unchanged where hifi_ref does not compute the format."""
    f = FORMATS.get(suite.layout.name)
    if f is None or f.layout.fields != suite.layout.fields or getattr(f, suite.operation) is None:
        return suite
    rng = np.random.default_rng([seed, f.type_id or 0, len(suite.operation)])
    drawn = {"decode": _decode_cases, "encode": _encode_cases, "dot": _dot_cases}[suite.operation](f, rng)
    return replace(suite, cases=(*suite.cases, *drawn))


def _decode_cases(f: Format, rng: np.random.Generator) -> Iterator[Case]:
    blocks = hard_inputs.scale_blocks(f, rng)
    if len(blocks) > 65536:
        # Every scale would be too many.
        long = len(blocks) // 65536 * 65536
        blocks = np.concatenate([blocks[:long:HALVES], blocks[long:]])
    for i in range(0, len(blocks), RUN):
        part = blocks[i : i + RUN].reshape(-1)
        expected = api.decode(f.name, part, lane="numpy")
        yield Case(f"scales-{i // RUN}", "scales", (), "valid", {"blocks": part}, expected)


def _encode_cases(f: Format, rng: np.random.Generator) -> Iterator[Case]:
    for kind in hard_inputs.importance_kinds(f):
        importance = hard_inputs.importance(kind, int(rng.integers(1 << 30)), ENCODED_VALUES)
        families = list(hard_inputs.FAMILIES)
        x = np.stack([hard_inputs.weights(family, rng, 1, ENCODED_VALUES)[0] for family in families])
        tame = np.full(len(x), True)
        if f.name.startswith("IQ"):
            tame = abs(x).max(axis=1) < LARGEST_SEARCHED
        expected = api.encode(f.name, x, importance, lane="numpy")
        for i in np.flatnonzero(tame):
            given = {"weights": x[i], "importance": importance}
            result = "undefined-in-c" if _is_undefined(f, x[i]) else "valid"
            id = f"{families[i].replace(' ', '-')}-{kind}"
            yield Case(id, families[i], (), result, given, expected[i])


def _is_undefined(f: Format, x: np.ndarray) -> bool:
    if f.name not in UNDEFINED_BELOW:
        return False
    blocks = x.astype(np.float64).reshape(-1, f.block_size)
    ranged = f.name in ("Q4_1", "Q5_1")
    size = np.ptp(blocks, axis=1) if ranged else abs(blocks).max(axis=1)
    tiny = (size > 0) & (size < UNDEFINED_BELOW[f.name] * 2.0**-128)
    return bool(tiny.any() or (ranged and (size > 2.0**128).any()))


def _dot_cases(f: Format, rng: np.random.Generator) -> Iterator[Case]:
    partner = hard_inputs.partner_of(f)
    unit = max(f.block_size, partner.block_size, 32)
    for blocks in (1, 2, 3, 8, 32):
        n = blocks * unit
        for family in ("gauss", "heavy tails", "spike", "mixed scales", "positive"):
            x = np.clip(hard_inputs.weights(family, rng, 1, n), -1e4, 1e4)[0]
            a = api.encode(partner.name, x, lane="numpy")
            w = hard_inputs.tame_scales(f, hard_inputs.random_blocks(f, rng, 4 * n // f.block_size), rng).reshape(4, -1)
            expected = api.dot(f.name, w, a, lane="numpy")
            for row in range(len(w)):
                id = f"{family.replace(' ', '-')}-{n}-{row}"
                yield Case(id, family, (), "valid", {"w": w[row], "a": a}, expected[row : row + 1])
