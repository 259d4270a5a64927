"""Derived bugs that are none: the same answers for all that the operation accepts, each with the reason.

A rule holds for an operation (or all), functions, kinds and changes, each a pattern that must match from its beginning.
A change that a function has several times has its number behind it. `python -m golden.near_misses --equivalent FORMAT`
looks for weights that refute the rules of an encoder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hifi_ref.known_bugs.derived.equivalent_grids import GRIDS
from hifi_ref.known_bugs.derived.equivalent_searches import SEARCHES

if TYPE_CHECKING:
    from hifi_ref.known_bugs.derived import Derived


class Rule(NamedTuple):
    operation: str
    function: str
    kind: str
    change: str
    formats: str
    reason: str


NO_SUMS = "Q3_K|Q6_K|IQ1_M|IQ2_.*|IQ3_.*|IQ4_XS|TQ._0"
SIXTEENS = "Q2_K|Q3_K|Q6_K"

RULES = tuple(
    Rule(*rule)
    for rule in (
        *SEARCHES,
        *GRIDS,
        # EXACT ARITHMETIC
        ("decode", r".*\.decode", "truncated arithmetic", r".*product_cut", ".*",
         "The product of a scale and a code is exact: there is nothing to cut off."),
        ("decode", r".*\.decode", "truncated arithmetic|half precision",
         r"(rows \+ delta|.*shift\) \* np.float32\(0.125)",
         "IQ1_.", "An eighth more or less than -1, 0 or 1 is exact, also in binary16."),
        ("decode", r".*\.decode", "fused multiply-add", ".*", "Q4_1|Q5_1|Q2_K|Q4_K|Q5_K",
         "The product is exact, so that fusing it changes nothing."),
        ("decode", r"(tq1_0|nvfp4)\.decode", "half precision", ".*", ".*",
         "The product has at most 11 bits and lies in the range of binary16."),
        ("dot", r".*\.dot", "truncated arithmetic",
         r"exact.product\((dw, da|m, s|partial, da|dw, exact.f32\(partial\)|exact.widen_ue4m3)", ".*",
         "The product of two binary16 scales, or of one and a small integer, has at most 24 bits."),
        ("dot", r"q[45]_0\.dot", "order of products", ".*", ".*",
         "The inner product is exact in both orders, and the outer one rounds the same number."),
        ("dot", r"iq1_.\.dot", "truncated arithmetic", r".*product_cut\(exact.f32\(", ".*",
         "An eighth of an integer is exact."),
        # NUMBERS THAT ARE SMALL
        ("dot", ".*", "integer overflow", r"exact.int_dot\(.*-> int_dot_pairs", r"(?!Q8_0)",
         "Two products of codes never exceed 16 bits: at most 2 * 127 * 128."),
        ("dot", r"(q1_0|q2_0|nvfp4)\.dot|super_block\.scaled_sum", "integer overflow",
         r"exact.int_dot\(.*-> (wrapped|saturated)16", "Q1_0|Q2_0|NVFP4|IQ1_.", "The sums never exceed 16 bits."),
        ("dot", r".*\.fields|.*\.unpack_scales|q1_0\.dot|q2_0\.dot|q5_0\.dot|iq1_s\.dot", "integer overflow",
         r"(2 \*|1 - 2|exact.i32|\(exact.i32|scales \* shift|split_five_bits)", ".*", "These are numbers below 256."),
        ("dot", r"super_block\.int_sixteenths", "integer overflow", r"exact.i32\(scales", "Q2_K|Q3_K",
         "A sub-block's share is at most 15 * 3 * 128, or 32 * 4 * 128."),
        ("dot", r"super_block\.sums_of_mins", "integer overflow", r"exact.i32\(bsums", "Q2_K",
         "One stored sum for each min is a number of 16 bits."),
        # WHAT IS NOT USED
        ("decode", r"q8_1\.decode", "field|stride", r".*'s'", ".*", "Decoding does not use the stored sum."),
        ("decode", r"q8_k\.decode", "field|stride|offset of codes|order of a field", r".*'bsums'", ".*",
         "Decoding does not use the stored sums."),
        ("dot", r"q8_k\.unpack", "field|stride|offset of codes|order of a field", r"(.*'bsums'|bsums ->)", NO_SUMS,
         "The format has no mins, and its dot product no use for stored sums."),
        (".*", ".*", "bit order", r".*spread\(\w+\[\.\.\., None\].*-> (planes_interleaved|run_turned)", ".*",
         "A run of one byte has no other byte and no neighbours."),
        ("dot", r"super_block\.dot_symmetric", ".*", r"exact.sum_of_rows\(corrections", ".*",
         "No format of llama.cpp has corrections."),
        ("dot", r"super_block\.int_sixteenths", ".*", r"(products\[|:?16 ->)", SIXTEENS,
         "Halves are added only in sub-blocks of 32."),
        ("dot", r"super_block\.int_sixteenths", "constant", r"256 -> 257", ".*", "257 has as many whole parts as 256."),
        (".*", r"iq1_m\.fields|tq1_0\._digits", "offset of codes", r".*shifted_signed", ".*",
         "The number is small: its highest bit is 0."),
        (".*", r"k_scales\.unpack", "offset", r"12 -> 13", ".*", "The field ends there."),
        (".*", r"packing\.spread_stream", ".*", r"(words|2 \*\* width)", "Q1_0", "Only the lowest bit is used."),
        (".*", r"packing\.spread_stream", ".*", r"8 \* i -> 8", "Q5_0|Q5_1", "A word has two bytes, and i is 1."),
        (".*", r"tq1_0\._codes", "constant", r"5 ->", ".*", "There are five powers, however many are asked for."),
        ("dot", r"(iq4_xs|nvfp4)\.dot", "field", r"d -> (high|qs|da \(3\))", ".*", "Only its shape is asked for."),
        ("dot", r"mxfp4\.dot", "bits", r"(119 -> 239|qs & np.uint8\(119\) -> qs)", ".*",
         "Where all codes are 0 or -0 the sum is 0, whatever the scale."),
        (
            "dot",
            r"q8_k\.unpack",
            "order of a field",
            r".*'bsums', 'pairs'",
            "Q4_K|Q5_K|IQ1_S",
            "The two sums of a sub-block of 32 are added to each other.",
        ),
        # ENCODERS
        ("encode", r"(q8_0\.scale_and_codes|q2_0\.encode|tq1_0\.ternary)", "rounding", r"exact.truncate\(.*round", ".*",
         "What was rounded has nothing left to cut off."),
        ("encode", r"q4_0\.encode|nvfp4\._narrow_ue4m3", "rounding", r".*-> truncate_down", ".*",
         "What is cut off is never negative."),
        ("encode", r"scale_search\.extreme", "truncated arithmetic", ".*", ".*", "Adding 0 is exact."),
        ("encode", r"scale_search\.extreme", "sign|term|offset of codes", r".* -> np.take", "Q8_K",
         "The sign of a zero is lost: a block of zeros has the scale 0."),
        ("encode", r"q4_0\.encode|q1_0\.encode", "reciprocal", r"exact.div\(.*np.float32\((-8|128)\)", ".*",
         "The reciprocal of a power of two is exact."),
        ("encode", r"super_block\.super_block_mean_square", "reciprocal", r"div\(", ".*",
         "The reciprocal of a power of two is exact."),
        ("encode", r"q1_0\.encode", "half precision|truncated arithmetic", r"exact.div\(", ".*",
         "A 128th part is exact where a binary16 can hold it, and is narrowed to one."),
        ("encode", r"q8_1\.encode", "half precision", r"exact.product\(", ".*",
         "The sum is narrowed to binary16 anyway."),
        ("encode", r"layout\._write", "f16 conversion", r".*narrow_f16_(cut|half_away)", "Q2_K|Q4_K|Q5_K",
         "The scales were narrowed before."),
        ("encode", r"q2_0\.encode", "constant|clamp", r"(2 ->|lib.clip)", ".*",
         "The quotient by the largest magnitude is at most 1 and a rounding: no defined code is above 2."),
        ("encode", r"q2_0\.encode", "range of codes", r".*-1, 2 (\*\* 22|- 1)\)$", ".*",
         "The quotient by the largest magnitude is at most 1 and a rounding: no defined code is above 2."),
        ("encode", r"q8_k\.encode", "clamp|constant", r"(exact.at_most\(127|127 -> \d+ \(2\))", ".*",
         "The product with the inverse is at most 127 and a rounding."),
        ("encode", r"q5_0\.encode", "clamp", r"exact.as_int8\(exact.truncate", ".*",
         "Defined codes are whole parts from 0 to 32."),
        ("encode", r"q5_0\.encode", "rounding", r".*-> truncate_down", ".*", "What is cut off is never negative."),
        ("encode", r"q6_k\.encode", "clamp", r"exact.as_int8\(exact.at_most", ".*",
         "The product with the inverse is at least -128 and a rounding; a NaN gives 0."),
        ("encode", r"packing\.join_five_bits", "bits", r"(codes >> 4 & 1 ->|1 -> 3)", "Q5_0|Q5_1",
         "Codes are below 32."),
        ("encode", r"packing\.gather", "factor", r"p \* width -> width",
         "Q4_0|Q4_1|Q4_K|IQ4_NL|IQ4_XS|IQ1_M|IQ2_XS|MXFP4|NVFP4",
         "There are two planes of nibbles, and p is 1."),
        ("encode", r"packing\.gather", "factor", r"p \* width -> p", "Q1_0", "The width is 1."),
        ("encode", r"packing\.gather", "one factor", r"p \* width -> width, in gather\(.*, 4\)$", ".*",
         "There are two planes of nibbles, and p is 1."),
        ("encode", r"packing\.gather", "one factor", r"p \* width -> p, in gather\(.*, (width|1)\)$",
         "Q5_0|Q5_1|Q3_K|IQ3_S", "The width is 1."),
        ("encode", r"q5_0\.encode", "reciprocal", r"exact.div\(.*np.float32\(-16\)", ".*",
         "The reciprocal of a power of two is exact."),
        ("encode", r"q6_k\.encode", "reciprocal", r"div\(np.float32\(-128\)", ".*",
         "A power of two times the reciprocal is the quotient, and the scales, at most 2^127 / 16, have one."),
        ("encode", r"q[36]_k\.encode", "narrowed first", r"d -> exact.round_f16\(d\) \(2\)", ".*",
         "The scale is narrowed to binary16 anyway."),
        ("encode", r"q6_k\.encode", "half precision", r"div\(np.float32\(1\), inverse", ".*",
         "The scale is narrowed to binary16 anyway."),
        ("encode", r"q6_k\.encode", "truncated arithmetic", r"exact.round_f16\(d\).*product_cut", ".*",
         "The product of a binary16 scale and 8 bits is exact."),
        ("encode", r"mxfp4\.floor_log2", "comparison", r"x < exact.SMALLEST_NORMAL", ".*",
         "Multiplied by 2^24, and the exponent less 24, the smallest normal number is what it was."),
        ("encode", r"mxfp4\.floor_log2", "truncated arithmetic", r"(x \* np.float32\(2.0 \*\*|exact.mul\(power)", ".*",
         "A product with a power of two is exact."),
        ("encode", r"mxfp4\.floor_log2", "comparison", r"e >= 0", ".*", "j is at least 1, which is above 0 and ln 2."),
        ("encode", r"mxfp4\.floor_log2", "comparison|half precision", r"(exact.f32\(j\) <|exact.mul\(power)", ".*",
         "A power of two times ln 2 is never whole, and up to 64 ln 2 a binary16 has the same whole part."),
        ("encode", r"nvfp4\._narrow_ue4m3", "clamp|constant", r"(lib.minimum\(x, np|448 ->)", ".*",
         "From 248 on all become 448, by the exponent."),
        ("encode", r"codebooks\.nearest_step_iq4", "truncated arithmetic|half precision", r"STEPS_IQ4\[:-1\]", ".*",
         "Sums of two steps are small integers."),
        ("encode", r"codebooks\.nearest_step_fp4", "truncated arithmetic|half precision", r"exact.mul\(d",
         "MXFP4|NVFP4",
         "The scale has at most four bits, and so has the step."),
        ("encode", r"codebooks\.nearest_step_fp4", "choice", r"lib.where\(nearer, distance, least\) -> distance", ".*",
         "The steps ascend: past the nearest none is nearer than the one before."),
        ("encode", r"codebooks\.nearest_step_fp4", "comparison", r"x < 0", ".*",
         "The code of 0 is 0, which has no sign."),
        ("encode", r"nvfp4\._narrow_ue4m3", "fused multiply-add|truncated arithmetic", r"exact.madd\(", ".*",
         "A product with 512 is exact."),
        ("encode", r"codebooks\.nearest_step_fp4|nvfp4\.encode", "narrowed first", r"d -> exact.round", "NVFP4",
         "The scale has at most four bits, which a binary16 holds."),
        # ORDERS OF FEW
        ("dot", r"q[12]_0\.dot", "order of additions", r"exact.sum_in_order\(.*(halves|.*in_lanes)", ".*",
         "Two terms have one order, and up to eight terms one in eight lanes."),
    )
)  # fmt: skip


def reason(bug: Derived) -> str | None:
    """Why a derived bug is equivalent to the definition; None where it is not known to be."""
    function = bug.site.partition(":")[0]
    numbered = bug.name.partition(f"{function}: ")[2]
    for rule in RULES:
        pairs = zip(rule[:5], (bug.operation, function, bug.kind, numbered, bug.format), strict=True)
        if all(re.match(pattern, text) for pattern, text in pairs):
            return rule.reason
    return None
