"""The flags of the neighbouring systems' vectors: what each one tests, or which fault of the original it shows."""

from __future__ import annotations

from tools.neighbours_cases.case import Case

# Words in the names of rows, and the flag that they bring.
BY_ROW = {
    "ZeroBlock": ("zeros", "pad"),
    "Tie": ("ties", "half_grid", "grid_127"),
    "Subnormal": ("f32_subnormal", "f32_tiny", "f32_min_sub", "f16_subnormal", "f16_min_sub"),
    "NotFinite": ("inf", "nan"),
    "EqualMagnitudes": ("pm_one", "max_tie_sign", "two_valued"),
    "Huge": ("f32_huge", "f32_1e30", "f16_max", "const_f16_max"),
}
NOTES = {
    "ZeroBlock": ("zero block", "A block holds zeros alone: what the scale is, and what codes, is each system's own."),
    "Tie": ("rounding", "Weights lie in the middle between codes: half-up, half-even and half-away differ."),
    "Subnormal": ("flush to zero", "Weights or scales are subnormal: hardware that flushes them gives other bits."),
    "NotFinite": ("NaN and infinity", "A block holds NaN or an infinity. Any NaN is right where one is expected."),
    "EqualMagnitudes": ("scale", "Several weights share the largest magnitude."),
    "Huge": ("overflow", "Weights are close to the largest number of their type."),
    "ScaleOfAnotherRow": (
        "scale index",
        "Rows are no multiple of the block: the decoder takes the scale by row, of another block than the weight's.",
    ),
    "WideTable": (
        "table look-up",
        "Codes come from a table 3e-5 wide, not from the nearest level: exact zeros become code 131, 2.1e-5 of absmax.",
    ),
    "ScaleByteZero": (
        "scale below 2^-127",
        "The scale's byte is 0, 2^-127, but the elements are of 2^-126, or of 1: the block comes back halved, or 0.",
    ),
    "NotFiniteLost": (
        "NaN and infinity",
        "A block with NaN or an infinity is stored as if it were a finite one, and decodes to zeros or finite numbers.",
    ),
    "WrappedScale": (
        "scale below 2^-127",
        "The scale's exponent wraps: a block of subnormal weights gets byte 254, and decodes to infinities.",
    ),
    "ConstantOf127": (
        "constant",
        "Products are scaled by 6.200124e-05, where 1/127^2 is 6.200012e-05: all of them are 1.8e-5 too large.",
    ),
    "LossAxis": (
        "axis of a sum",
        "The loss is averaged over the blocks of a row, not within a block; it is NaN where there is a single block.",
    ),
    "InterleavedNibbles": ("nibble order", "Nibbles of a byte are taken for weights 2i and 2i+1, not i and i+16."),
    "StrideOf36": ("block stride", "Blocks of 34 bytes are read 36 bytes apart, their codes from byte 4 on."),
    "TruncatedBase": (
        "unaligned block",
        "The byte offset of odd blocks, 210 i, is truncated to a multiple of 4; scales are byte - 128, not int8, and "
        "those of quarters 1 and 2 exchanged.",
    ),
    "DivergentBarrier": (
        "barrier in divergent control flow",
        "Each lane fills the shared tile from its own block, with a barrier in a loop that not all lanes run: "
        "undefined, zeros where it was measured.",
    ),
    "Found": ("search", "The system's search chose what is stored; it is only decoded."),
}
NOTES = {flag: dict(zip(("bug_type", "description"), words, strict=True)) for flag, words in NOTES.items()}


def flags_of(case: Case) -> list[str]:
    """Of one case, in the order of the alphabet."""
    by_row = {
        flag for flag, words in BY_ROW.items() if any(name.startswith(words) or name in words for name in case.names)
    }
    searched = {"Found"} if case.parameters.get("optimize") else set()
    return sorted({*case.flags, *by_row, *case.without, *case.faulty, *searched})
