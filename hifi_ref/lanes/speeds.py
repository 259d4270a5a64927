"""How fast each lane is, as measured by `python -m bench.lanes` on two cores of an AMD EPYC (Zen 5).

From NumPy arrays to NumPy arrays. choose.py decides from the ratios, which other machines share roughly.
"""

from __future__ import annotations

from typing import NamedTuple

MEASURED_ON = "two cores of an AMD EPYC (Zen 5)"

# Weights a call of what is compiled, where one shape serves all.
ENCODED_PIECE = 1 << 19
# As a build that fuses, of which few blocks may be asked for at a time.
BUILT_PIECE = 1 << 16
DECODED_PIECE = 1 << 20
# Seconds until JAX is loaded and its canary has sung, where that is kept, and to compile it where it is not; to load
# what an earlier process has compiled. 2026-11-22, of the processor.
JAX_START = 0.8
CANARY = 2.5
LOAD = 0.3


class Speed(NamedTuple):
    """Millions of weights a second in NumPy and in JAX, and seconds to compile."""

    numpy: float
    jax: float
    compiling: float


# Of a product with a matrix, in millions of multiplications; in NumPy it is one dot product after the other.
MATMUL = Speed(0.0, 3000, 1.5)
# Q8_0 in NumPy is from whole files: from 130 million weights on JAX is quicker; two cores of an AMD EPYC, 2026-11-23.
SPEEDS: dict[str, dict[str, Speed]] = {
    "encode": {
        "F32": Speed(138, 417, 0.1),
        "F16": Speed(160, 681, 0.1),
        "BF16": Speed(191, 769, 0.1),
        "Q1_0": Speed(75, 366, 0.2),
        "Q2_0": Speed(81, 566, 0.2),
        "Q4_0": Speed(110, 360, 0.3),
        "Q4_1": Speed(90, 380, 0.3),
        "Q5_0": Speed(100, 230, 0.3),
        "Q5_1": Speed(60, 430, 0.5),
        "Q8_0": Speed(100, 694, 0.2),
        "Q8_1": Speed(61, 543, 0.2),
        "Q2_K": Speed(4, 50, 1.4),
        "Q3_K": Speed(4, 80, 2.2),
        "Q4_K": Speed(2.5, 65, 2.4),
        "Q5_K": Speed(2.5, 65, 2.4),
        "Q6_K": Speed(6, 100, 1.6),
        "Q8_K": Speed(109, 296, 0.6),
        "IQ1_M": Speed(1.3, 19, 4.5),
        "IQ2_S": Speed(1.5, 18, 6),
        "IQ3_XXS": Speed(0.6, 10, 6.5),
        "IQ3_S": Speed(0.9, 14, 6.2),
        "IQ4_NL": Speed(5, 60, 1.5),
        "IQ4_XS": Speed(5, 60, 2),
        "TQ1_0": Speed(95, 224, 0.3),
        "TQ2_0": Speed(114, 383, 0.2),
        "MXFP4": Speed(35, 693, 0.2),
        "NVFP4": Speed(27, 115, 0.2),
    },
    "encode with importance": {
        "F32": Speed(263, 142, 0.2),
        "F16": Speed(155, 195, 0.1),
        "BF16": Speed(119, 170, 0.1),
        "Q1_0": Speed(52, 232, 0.6),
        "Q2_0": Speed(86, 430, 0.4),
        "Q4_0": Speed(4.6, 90, 1.1),
        "Q4_1": Speed(2.1, 25, 1.5),
        "Q5_0": Speed(3.8, 70, 1.2),
        "Q5_1": Speed(1.3, 21, 1.8),
        "Q8_0": Speed(68, 346, 0.2),
        "Q8_1": Speed(38, 388, 0.2),
        "Q2_K": Speed(1.5, 22, 4.0),
        "Q3_K": Speed(4, 85, 2.4),
        "Q4_K": Speed(1.3, 20, 5.3),
        "Q5_K": Speed(1.3, 25, 5.4),
        "Q6_K": Speed(6, 100, 1.6),
        "Q8_K": Speed(60, 476, 0.5),
        "IQ1_S": Speed(1.5, 25, 4.5),
        "IQ1_M": Speed(1.3, 19, 4.5),
        "IQ2_XXS": Speed(0.75, 16, 7.5),
        "IQ2_XS": Speed(0.23, 14, 5.6),
        "IQ2_S": Speed(1.5, 18, 6),
        "IQ3_XXS": Speed(0.6, 10, 6.5),
        "IQ3_S": Speed(0.9, 14, 6.2),
        "IQ4_NL": Speed(5, 60, 1.5),
        "IQ4_XS": Speed(5, 60, 2),
        "TQ1_0": Speed(95, 224, 0.3),
        "TQ2_0": Speed(114, 383, 0.2),
        "MXFP4": Speed(35, 693, 0.2),
        "NVFP4": Speed(27, 115, 0.2),
    },
    "decode": {
        "F32": Speed(1424, 323, 0.2),
        "F16": Speed(400, 559, 0.1),
        "BF16": Speed(1098, 489, 0.1),
        "Q1_0": Speed(448, 1021, 0.2),
        "Q2_0": Speed(392, 1090, 0.1),
        "Q4_0": Speed(327, 828, 0.1),
        "Q4_1": Speed(355, 991, 0.1),
        "Q5_0": Speed(283, 985, 0.1),
        "Q5_1": Speed(230, 1003, 0.1),
        "Q8_0": Speed(696, 660, 0.1),
        "Q8_1": Speed(725, 1205, 0.0),
        "Q2_K": Speed(408, 1047, 0.1),
        "Q3_K": Speed(306, 1023, 0.1),
        "Q4_K": Speed(397, 1425, 0.1),
        "Q5_K": Speed(322, 1014, 0.1),
        "Q6_K": Speed(415, 1057, 0.2),
        "Q8_K": Speed(803, 857, 0.2),
        "IQ1_S": Speed(416, 933, 0.1),
        "IQ1_M": Speed(296, 509, 0.1),
        "IQ2_XXS": Speed(333, 810, 0.1),
        "IQ2_XS": Speed(429, 557, 0.1),
        "IQ2_S": Speed(357, 906, 0.1),
        "IQ3_XXS": Speed(387, 920, 0.1),
        "IQ3_S": Speed(364, 645, 0.1),
        "IQ4_NL": Speed(258, 841, 0.1),
        "IQ4_XS": Speed(266, 972, 0.1),
        "TQ1_0": Speed(454, 903, 0.1),
        "TQ2_0": Speed(494, 680, 0.1),
        "MXFP4": Speed(273, 596, 0.1),
        "NVFP4": Speed(154, 733, 0.2),
    },
    "dot": {
        "F32": Speed(118, 66, 1.2),
        "F16": Speed(79, 68, 0.4),
        "BF16": Speed(226, 63, 1.0),
        "Q1_0": Speed(233, 4543, 0.5),
        "Q2_0": Speed(431, 4333, 0.4),
        "Q4_0": Speed(521, 5340, 0.4),
        "Q4_1": Speed(396, 2332, 0.3),
        "Q5_0": Speed(258, 7801, 0.5),
        "Q5_1": Speed(235, 2286, 0.5),
        "Q8_0": Speed(448, 4845, 0.4),
        "Q2_K": Speed(204, 4225, 0.6),
        "Q3_K": Speed(138, 4660, 1.1),
        "Q4_K": Speed(288, 8029, 1.1),
        "Q5_K": Speed(170, 1954, 1.1),
        "Q6_K": Speed(178, 1026, 0.8),
        "IQ1_S": Speed(729, 1302, 0.6),
        "IQ1_M": Speed(336, 3100, 0.6),
        "IQ2_XXS": Speed(280, 361, 0.5),
        "IQ2_XS": Speed(538, 300, 0.6),
        "IQ2_S": Speed(494, 1482, 0.6),
        "IQ3_XXS": Speed(713, 439, 0.6),
        "IQ3_S": Speed(507, 323, 0.5),
        "IQ4_NL": Speed(375, 7015, 0.3),
        "IQ4_XS": Speed(202, 3291, 0.6),
        "TQ1_0": Speed(595, 547, 0.9),
        "TQ2_0": Speed(940, 15868, 0.5),
        "MXFP4": Speed(333, 3384, 0.8),
        "NVFP4": Speed(234, 1399, 0.5),
    },
}
# Formats that are not in the table, such as those of the HIFI fork.
OTHERS = {
    "encode": Speed(1.5, 15, 6.0),
    "encode with importance": Speed(1.0, 15, 8.0),
    "decode": Speed(200, 100, 0.3),
    "dot": Speed(100, 1000, 1.5),
}


# As a build that fuses multiply-adds JAX encodes these, whose searches are long; and what is then left of a speed.
AS_BUILT = (
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
    "IQ4_NL", "IQ4_XS",
)  # fmt: skip
LEFT = Speed(0.4, 0.3, 1.5)
# Seconds that such a search takes in NumPy, however few blocks it is of.
BEGIN = 0.1


def of_format(operation: str, name: str) -> Speed:
    """``operation``: "encode", "encode with importance", "decode" or "dot"."""
    return SPEEDS[operation].get(name, OTHERS[operation])


def as_built(operation: str, name: str) -> Speed:
    """of_format, but of encoding as a build that fuses; where JAX does not, it is no faster."""
    speed = Speed(*(of * left for of, left in zip(of_format(operation, name), LEFT, strict=True)))
    return speed if name in AS_BUILT else speed._replace(jax=speed.numpy)
