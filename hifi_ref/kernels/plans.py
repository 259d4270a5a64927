"""One line a format: how its bytes are taken apart, how codes become numbers, which whole sums are added, and how."""

from __future__ import annotations

from hifi_ref.formats import codebooks
from hifi_ref.kernels import fields, order, slots, unpack
from hifi_ref.kernels.grid_steps import STEPS_IQ1_M, signed_steps
from hifi_ref.kernels.structures import Plan

FP4 = tuple(int(v) for v in codebooks.STEPS_FP4)
IQ4 = tuple(int(v) for v in codebooks.STEPS_IQ4)


def _stream(width):
    return lambda qs: unpack.stream(qs, width)


def _grid(taken_apart, name, scale, final):
    steps = signed_steps(name)
    bits = (4,) if len(steps) > 4 else (2,)
    return Plan(taken_apart, unpack.whole, bits, steps, "whole", order.scales_first, scale * max(steps), final)


PLANS = {
    "Q1_0": Plan(fields.plain, _stream(1), (1,), (-1, 1), "runs", order.activations_inside, 1),
    "Q2_0": Plan(fields.plain, _stream(2), (2,), 1, "runs", order.activations_inside, 2),
    "Q4_0": Plan(fields.plain, unpack.halves, (4,), 8, "runs", order.weights_first, 8),
    "Q4_1": Plan(fields.of_q4_1, unpack.halves, (4,), 0, "runs", order.with_min, 15),
    "Q5_0": Plan(fields.of_q5_0, unpack.five_bits_in_halves, (4, 1), 16, "runs", order.scales_first, 16),
    "Q5_1": Plan(fields.of_q5_1, unpack.five_bits_in_halves, (4, 1), 0, "runs", order.with_min, 31),
    "Q8_0": Plan(fields.plain, unpack.whole, (8,), 0, "runs", order.scales_first, 128),
    "IQ4_NL": Plan(fields.plain, unpack.halves, (4,), IQ4, "runs", order.scales_first, 127),
    "MXFP4": Plan(fields.of_mxfp4, unpack.halves, (4,), FP4, "runs", order.scales_first, 12),
    "NVFP4": Plan(fields.of_nvfp4, unpack.eighths, (4,), FP4, "halves", order.scales_first, 12),
    "Q2_K": Plan(fields.of_q2_k, unpack.quarters, (2,), 0, "whole", order.minus_share, 15 * 3),
    "Q3_K": Plan(fields.of_q3_k, unpack.three_bits, (2, 1), 4, "lanes", order.scales_first, 32 * 4),
    "Q4_K": Plan(fields.of_q4_k, unpack.pairs, (4,), 0, "lanes", order.scales_first, 63 * 15),
    "Q5_K": Plan(fields.of_q5_k, unpack.five_bits_in_pairs, (4, 1), 0, "lanes", order.scales_first, 63 * 31),
    "Q6_K": Plan(fields.of_q6_k, unpack.six_bits, (4, 2), 32, "lanes", order.scales_first, 128 * 32),
    "TQ1_0": Plan(fields.of_tq1_0, unpack.digits, (2,), 1, "whole", order.scales_first, 1),
    "TQ2_0": Plan(fields.of_tq2_0, unpack.quarters, (2,), 1, "whole", order.scales_first, 2),
    "IQ4_XS": Plan(fields.of_iq4_xs, unpack.halves, (4,), IQ4, "runs", order.sub_scales, 127),
    "IQ2_XXS": _grid(fields.of_iq2_xxs, "IQ2_XXS", 31, 0.125),
    "IQ2_XS": _grid(fields.of_iq2_xs, "IQ2_XS", 31, 0.125),
    "IQ2_S": _grid(fields.of_iq2_s, "IQ2_S", 31, 0.125),
    "IQ3_XXS": _grid(fields.of_iq3_xxs, "IQ3_XXS", 31, 0.25),
    "IQ3_S": _grid(fields.of_iq3_s, "IQ3_S", 31, 1.0),
    "IQ1_S": Plan(fields.of_iq1_s, unpack.whole, (2,), 1, "whole", order.shifted, 15),
    "IQ1_M": Plan(fields.of_iq1_m, unpack.whole, (4,), STEPS_IQ1_M, "whole", order.eighth_of_sum, 15 * 9),
}

# Formats with outliers: the plan of their base, and what becomes of the slots.
PLANS |= {
    "Q2_K_HIFI": PLANS["Q2_K"]._replace(slots=slots.of_q2_k_hifi),
    "Q3_K_HIFI": PLANS["Q3_K"]._replace(slots=slots.of_q3_k_hifi, sums="places", replaces=True),
    "Q4_K_HIFI": PLANS["Q4_K"]._replace(slots=slots.of_q4_k_hifi, sums="places", replaces=True),
    "Q6_K_HIFI": PLANS["Q6_K"]._replace(slots=slots.of_q6_k_hifi, replaces=True),
    "Q6_K_HIFI_DYNAMIC": PLANS["Q6_K"]._replace(slots=slots.of_q6_k_hifi_dynamic, least=4),
    "Q5_K_HIFI_RES8": PLANS["Q5_K"]._replace(slots=slots.of_q5_k_hifi_res8, least=4),
    "Q6_K_HIFI_RES8": PLANS["Q6_K"]._replace(slots=slots.of_q6_k_hifi_res8, least=4),
    "Q2_K_LITE": PLANS["Q2_K"]._replace(slots=slots.of_lite),
    "Q3_K_LITE": PLANS["Q2_K"]._replace(slots=slots.of_lite),
    "Q4_K_LITE": PLANS["Q3_K"]._replace(slots=slots.of_lite),
    "Q5_K_LITE": PLANS["Q4_K"]._replace(slots=slots.of_lite),
    "Q6_K_LITE": PLANS["Q5_K"]._replace(slots=slots.of_lite),
    "Q6_K_HIFI_L": PLANS["Q6_K"]._replace(slots=slots.of_q6_k_hifi_l, replaces=True),
    "Q4_HIFI": PLANS["Q4_K"]._replace(slots=slots.of_q6_k_hifi_l, replaces=True),
}
