"""Bugs in encoders."""

from __future__ import annotations

from tests.conform.battery.planted_blocks import FIFTH, NIBBLES

ROUNDING = r"round|cut|trunc|tie"
NARROW = r"binary16|f16|narrow|half|subnormal|infinit|overflow"

BUGS = {
    "Q4_0.encode": (
        ("extreme / -8", "top / 7", "scale|extreme|magnitude|sign"),
        ("extreme / -8", "extreme / 8", "sign|scale|minus"),
        ("extreme / -8", "top / -8", "sign|scale|magnitude|extreme"),
        ("+ 8.5f", "+ 8", ROUNDING + "|place of"),
        ("(int)(x[j] * inverse + 8.5f)", "(int)roundf(x[j] * inverse) + 8", ROUNDING),
        ("least(15, int8((int)(x[j] * inverse + 8.5f)))", "int8((int)(x[j] * inverse + 8.5f))",
         "cap|clamp|16|overflow"),
        ("> top)", ">= top)", "first|last|equal|tie"),
        ("low | high << 4", "high | low << 4", NIBBLES),
        ("store_half(b, d);", "store_half(b, d); d = load_half(b); inverse = d ? 1 / d : 0;", "narrow|stored|f16"),
        ("h = (a - 0x38000000 + 0xFFF + (a >> 13 & 1)) >> 13", "h = (a - 0x38000000) >> 13", NARROW + "|cut|towards"),
        ("(uint32_t)nearbyintf(as_float(a) * 0x1p24f)", "0", NARROW),
        ("x[j] * inverse + 8.5f", "fmaf(x[j], inverse, 8.5f)", "fuse"),
        ("x[j + 16] * inverse", "x[j + 16] / d", "divi|reciprocal|round"),
    ),
    "Q4_1.encode": (
        ("(high - low) / 15", "(high - low) / 16", "15|16|range|scale"),
        ("+ 0.5f", "", ROUNDING),
        ("store_half(b + 2, low)", "store_half(b + 2, -low)", "min|sign|minus"),
        ("(int)((x[j] - low) * inverse + 0.5f)", "(int)nearbyintf((x[j] - low) * inverse)", ROUNDING),
        ("float low = x[0], high = x[0]", "float low = 0, high = 0", "min|zero|0|low"),
        ("first | second << 4", "second | first << 4", NIBBLES),
        ("store_half(b, d);\n        store_half(b + 2, low);", "store_half(b, low);\n        store_half(b + 2, d);",
         "field|swap|order|place"),
        ("(x[j] - low) * inverse + 0.5f", "fmaf(x[j] - low, inverse, 0.5f)", "fuse"),
    ),
    "Q5_0.encode": (
        ("extreme / -16", "extreme / 16", "sign|scale|minus"),
        ("extreme / -16", "extreme / -15", "scale|place of|16"),
        ("(low >> 4 & 1) << j", "(low >> 4 & 1) << (31 - j)", FIFTH),
        ("(high >> 4 & 1) << (j + 16)", "(high >> 4 & 1) << j", FIFTH),
        ("+ 16.5f", "+ 16", ROUNDING + "|place of"),
        ("low & 15) | (high & 15) << 4", "high & 15) | (low & 15) << 4", NIBBLES),
        ("least(31, int8((int)(x[j] * inverse + 16.5f)))", "int8((int)(x[j] * inverse + 16.5f))",
         "cap|clamp|32|overflow"),
        ("(int)(x[j] * inverse + 16.5f)", "(int)nearbyintf(x[j] * inverse + 16)", ROUNDING),
    ),
    "Q5_1.encode": (
        ("(high - low) / 31", "(high - low) / 32", "31|32|range|scale"),
        ("fifth |= (uint32_t)(first >> 4 & 1) << j |", "fifth |=", FIFTH),
        ("store_half(b + 2, low)", "store_half(b + 2, high)", "min|max"),
        ("+ 0.5f", "", ROUNDING),
        ("memcpy(b + 4, &fifth, 4)", "memcpy(b + 20, &fifth, 4)", FIFTH + "|field|place|byte"),
    ),
    "Q8_0.encode": (
        ("top / 127", "top / 128", "127|128|scale"),
        ("roundf(x[j] * inverse)", "x[j] * inverse", ROUNDING),
        ("roundf(x[j] * inverse)", "roundf(x[j] / d)", "divi|reciprocal"),
        ("roundf(x[j] * inverse)", "floorf(x[j] * inverse + 0.5f)", ROUNDING),
        ("store_half(b, d);", "store_half(b, d); d = load_half(b); inverse = d ? 1 / d : 0;", "narrow|stored|f16"),
        ("fmaxf(top, fabsf(x[j]))", "fmaxf(top, x[j])", "magnitude|abs|sign"),
        ("a >= 0x47800000) h = 0x7C00", "a >= 0x47800000) h = 0x7BFF", NARROW + "|largest"),
        ("h = (a - 0x38000000 + 0xFFF + (a >> 13 & 1)) >> 13", "h = (a - 0x38000000 + 0x1000) >> 13", NARROW + "|tie"),
    ),
    "Q8_1.encode": (
        ("sum * d", "sum", "sum|scale"),
        ("sum * d", "sum * load_half(b)", "narrow|stored|f16"),
        ("sum += q", "sum += x[j] / d", "sum"),
        ("store_half(b + 2, sum * d)", "store_half(b + 2, 0)", "sum|s |field s"),
    ),
    "Q8_K.encode": (
        ("-127 / extreme", "127 / extreme", "sign|minus|scale"),
        ("-127 / extreme", "-128 / extreme", "127|128|scale"),
        ("d = 1 / inverse", "d = extreme / -127", "divi|reciprocal|scale|quotient"),
        ("nearbyintf(inverse * x[j])", "roundf(inverse * x[j])", ROUNDING),
        ("nearbyintf(inverse * x[j])", "(inverse * x[j])", ROUNDING),
        ("j < 16; j++) sum", "j < 15; j++) sum", "sum"),
        ("(int8_t)b[4 + 16 * g + j]", "b[4 + 16 * g + j]", "sum|unsigned|sign"),
        ("b + 260 + 2 * g", "b + 260 + 2 * (15 - g)", "sum|order|reverse"),
    ),
    "TQ1_0.encode": (
        ("(number * 256 + 242) / 243", "number", "fraction|number|digit"),
        ("(number * 256 + 242) / 243", "number * 256 / 243", "fraction|round|cut|up"),
        ("+ 1;\n            }", "+ 2;\n            }", "digit|offset|place of|code"),
        ("(int)roundf(x[j] * inverse)", "(x[j] > 0) - (x[j] < 0)", "sign|round|small|zero"),
        ("roundf(x[j] * inverse)", "nearbyintf(x[j] * inverse)", "even"),
    ),
    "TQ2_0.encode": (
        ("2 * (j % 128 / 32)", "2 * (j % 4)", "bit|order|byte|plane"),
        ("(int)roundf(x[j] * inverse) + 1", "(int)roundf(x[j] * inverse) + 2", "offset|place of|code"),
        ("roundf(x[j] * inverse)", "nearbyintf(x[j] * inverse)", "even"),
        ("roundf(x[j] * inverse)", "floorf(x[j] * inverse + 0.5f)", ROUNDING),
        ("(int)roundf(x[j] * inverse)", "(int)(x[j] * inverse)", ROUNDING),
    ),
    "Q1_0.encode": (
        ("sum / 128", "sum / 127", "scale|128|mean|place of"),
        ("x[j] >= 0", "x[j] > 0", "zero|>"),
        ("1 << j % 8", "128 >> j % 8", "bit|order|reverse"),
        ("sum += fabsf(x[j])", "sum = fmaxf(sum, fabsf(x[j]))", "largest|mean|scale|magnitude"),
        ("float sum = 0", "double sum = 0", "binary64|order|double"),
    ),
}  # fmt: skip
