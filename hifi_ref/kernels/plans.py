"""One line a format: how its codes become numbers, which whole sums it takes, and how these are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hifi_ref.formats import codebooks
from hifi_ref.kernels import fields, order, unpack

FP4 = tuple(int(v) for v in codebooks.STEPS_FP4)
IQ4 = tuple(int(v) for v in codebooks.STEPS_IQ4)


class Plan(NamedTuple):
    codes: Callable
    """The packed codes of Weights -> uint8[groups, 8, 32, rows], 0 .. 2^bits - 1."""
    bits: tuple[int, ...]
    """Widths of the planes that a kernel gets the codes in: low bits, high bits."""
    value: int | tuple[int, ...]
    """A number taken off the codes, or what they stand for."""
    sums: str
    """"runs" of 32, "halves" of 16, "whole" groups, "lanes": the places that are equal modulo 8; or "places": none."""
    add: Callable
    largest: int
    """The most that scale * code can be, in size."""
    final: float = 1.0
    """What multiplies the result, a power of two."""
    replaces: bool = False
    """Whether slots stand for the base's weights, so that these are taken off their values."""
    least: int | None = None
    """Slots whose activation has a code of at most this size are left out."""

    def numbers(self, codes):
        """Codes as signed numbers, of the codes' integer type."""
        if isinstance(self.value, int):
            return codes - codes.dtype.type(self.value) if self.value else codes
        return codebooks.look_up(self.value, codes)


def _stream(width):
    return lambda qs: unpack.stream(qs, width)


def _grid(name, scale, final):
    steps = fields.signed_steps(name)
    bits = (4,) if len(steps) > 4 else (2,)
    return Plan(unpack.whole, bits, steps, "whole", order.scales_first, scale * max(steps), final)


PLANS = {
    "Q1_0": Plan(lambda qs: unpack.stream(qs, 1), (1,), (-1, 1), "runs", order.activations_inside, 1),
    "Q2_0": Plan(lambda qs: unpack.stream(qs, 2), (2,), 1, "runs", order.activations_inside, 2),
    "Q4_0": Plan(unpack.halves, (4,), 8, "runs", order.weights_first, 8),
    "Q4_1": Plan(unpack.halves, (4,), 0, "runs", order.with_min, 15),
    "Q5_0": Plan(unpack.five_bits_in_halves, (4, 1), 16, "runs", order.scales_first, 16),
    "Q5_1": Plan(unpack.five_bits_in_halves, (4, 1), 0, "runs", order.with_min, 31),
    "Q8_0": Plan(unpack.whole, (8,), 0, "runs", order.scales_first, 128),
    "IQ4_NL": Plan(unpack.halves, (4,), IQ4, "runs", order.scales_first, 127),
    "MXFP4": Plan(unpack.halves, (4,), FP4, "runs", order.scales_first, 12),
    "NVFP4": Plan(unpack.eighths, (4,), FP4, "halves", order.scales_first, 12),
    "Q2_K": Plan(unpack.quarters, (2,), 0, "whole", order.minus_share, 15 * 3),
    "Q3_K": Plan(unpack.three_bits, (2, 1), 4, "lanes", order.scales_first, 32 * 4),
    "Q4_K": Plan(unpack.pairs, (4,), 0, "lanes", order.scales_first, 63 * 15),
    "Q5_K": Plan(unpack.five_bits_in_pairs, (4, 1), 0, "lanes", order.scales_first, 63 * 31),
    "Q6_K": Plan(unpack.six_bits, (4, 2), 32, "lanes", order.scales_first, 128 * 32),
    "TQ1_0": Plan(unpack.digits, (2,), 1, "whole", order.scales_first, 1),
    "TQ2_0": Plan(unpack.quarters, (2,), 1, "whole", order.scales_first, 2),
    "IQ4_XS": Plan(unpack.halves, (4,), IQ4, "runs", order.sub_scales, 127),
    "IQ2_XXS": _grid("IQ2_XXS", 31, 0.125),
    "IQ2_XS": _grid("IQ2_XS", 31, 0.125),
    "IQ2_S": _grid("IQ2_S", 31, 0.125),
    "IQ3_XXS": _grid("IQ3_XXS", 31, 0.25),
    "IQ3_S": _grid("IQ3_S", 31, 1.0),
    "IQ1_S": Plan(unpack.whole, (2,), 1, "whole", order.shifted, 15),
    "IQ1_M": Plan(unpack.whole, (4,), fields.STEPS_IQ1_M, "whole", order.eighth_of_sum, 15 * 9),
}

# Formats with outliers: the plan of their base, and what becomes of the slots.
PLANS |= {
    "Q2_K_HIFI": PLANS["Q2_K"],
    "Q3_K_HIFI": PLANS["Q3_K"]._replace(sums="places", replaces=True),
    "Q4_K_HIFI": PLANS["Q4_K"]._replace(sums="places", replaces=True),
    "Q6_K_HIFI": PLANS["Q6_K"]._replace(replaces=True),
    "Q6_K_HIFI_DYNAMIC": PLANS["Q6_K"]._replace(least=4),
    "Q5_K_HIFI_RES8": PLANS["Q5_K"]._replace(least=4),
    "Q6_K_HIFI_RES8": PLANS["Q6_K"]._replace(least=4),
    "Q2_K_LITE": PLANS["Q2_K"],
    "Q3_K_LITE": PLANS["Q2_K"],
    "Q4_K_LITE": PLANS["Q3_K"],
    "Q5_K_LITE": PLANS["Q4_K"],
    "Q6_K_LITE": PLANS["Q5_K"],
    "Q6_K_HIFI_L": PLANS["Q6_K"]._replace(replaces=True),
    "Q4_HIFI": PLANS["Q4_K"]._replace(replaces=True),
}
