"""What the flags of tests mean: the class of bug, what goes wrong, and where it was seen in real implementations."""

from __future__ import annotations

from typing import Any

from hifi_ref.known_bugs.kinds import KINDS

# flag: (class of bug, a key of KINDS where there is one; what goes wrong)
NOTES = {
    "OneBit": ("layout", "A bit of a plain block is flipped: fields that are read elsewhere or in another order show."),
    "EachNumber": (
        "layout",
        "Together these blocks hold each code, scale, min, sign code and row number of a grid: numbers of up to six "
        "bits "
        "at each of their places, wider ones at some place. Nibble order, planes of high bits and packed scales show.",
    ),
    "ScaleClass": ("f16 conversion",
    "The scale is a zero, subnormal, normal, largest, infinite or NaN number, of either sign."),
    "EachScale": ("E8M0 special", "Each byte that a power-of-two scale can be; 255 is no NaN here."),
    "EachUE4M3": ("UE4M3 special",
    "Each byte that a UE4M3 scale can be; 0x7F gives 0 here, and the top bit is ignored."),
    "NaN": ("comparison", "Some expected values are NaN. Any NaN is right; 7FC00000 is written for all of them."),
    "RandomBytes": ("layout", "Every field has random bytes, also values that no encoder writes."),
    "NearTie": ("rounding", "Weights lie close to the middle between codes: half-up, half-even and half-away differ."),
    "Tie": ("rounding", "Weights lie in the middle between codes, and right next to it, such as 0.49999997."),
    "RoundingTie": (
        "rounding",
        "A product or a sum lies in the middle between two binary32 numbers, or right next to it: halves away from "
        "zero, cutting off, and rounding later or earlier show.",
    ),
    "FusedTie": (
        "fused multiply-add",
        "A product and a sum that round once, not twice, give another code here. The expected bytes round twice.",
    ),
    "PlatformDependent": (
        "fused multiply-add",
        "The release's arm64 build writes other bytes for these weights: its compiler fuses multiply-adds, and where "
        "an encoder sorts, another C library may leave equal numbers in another order. The expected bytes are those of "
        "the x86-64 build.",
    ),
    "EqualMagnitudes": ("scale", "Several weights share the largest magnitude; the first of them decides the sign."),
    "SignedZero": ("sign of zero", "Weights are +0 and -0."),
    "Subnormal": ("flush to zero", "Weights are subnormal numbers, which some processors and compilers flush to zero."),
    "SubnormalScale": ("f16 conversion", "The scale is a subnormal binary16."),
    "Overflow": ("f16 conversion",
    "Weights are close to the largest binary32, or the scale exceeds the largest binary16."),
    "Spike": ("scale", "One weight is far larger than the rest."),
    "Representable": ("scale", "The weights are what a block decodes to, so that a search can meet them exactly."),
    "MixedScales": ("packed scales",
    "Sub-blocks differ by many orders of magnitude, so that scales take their smallest codes."),
    "Importance": ("importance", "An importance row is given; encoders without a use for it must ignore it."),
    "ZeroImportance": ("importance", "Some weights have no importance at all."),
    "SeveralBlocks": (
        "stride",
        "A row of several blocks, each of another size: a wrong stride shows, what stays behind from the block before, "
        "and importance that does not go along; the importance of an error can depend on the whole row.",
    ),
    "SeveralRows": (
        "stride",
        "Several rows, each of several blocks: importance and activations begin anew with each row. `rows` says how "
        "many; importance is that of one row.",
    ),
    "ScaleTie": (
        "f16 conversion",
        "The scale, before it is narrowed to binary16, lies in the middle between two such numbers, or next to that.",
    ),
    "QuotientTie": (
        "rounding",
        "Weights whose quotient by the scale, and product with its inverse, round to different codes. The reference "
        "multiplies.",
    ),
    "NearMiss": (
        "rounding",
        "Found by search: here one operation of the reference that rounds, adds or compares otherwise, and hardly ever "
        "matters, gives another block.",
    ),
    "FaintSums": (
        "flush to zero",
        "The scale of the activations is so small that products and sums are subnormal numbers, which are rounded "
        "anew wherever they are multiplied.",
    ),
    "InfiniteScale": ("f16 conversion", "A scale of the weights is an infinity or NaN, and so is the dot product."),
    "OrderOfAdditions": ("order of additions",
    "The mean magnitude is a tie in binary16 that depends on the order of additions."),
    "Saturating": ("integer overflow", "Codes have their largest magnitudes, so that 16-bit partial sums overflow."),
    "LowestActivation": ("activation -128",
    "Activations have the code -128, which no encoder writes but a byte can hold."),
    "Cancellation": ("order of additions", "Large terms cancel, and the rest depends on the order of additions."),
    "LongRow": ("order of additions", "Many blocks a row: the order of additions and fused multiply-adds show."),
    "StoredSums": (
        "activation sums",
        "The stored sums of the activations are not those of their codes. The reference takes them as they are stored; "
        "a kernel that adds up the codes itself differs, and is not wrong on what encoders write.",
    ),
    "InfiniteInverse": (
        "undefined behaviour",
        "The inverse of the scale overflows, and C converts products that are not finite to integers. The expected "
        "bytes are those of the x86-64 release.",
    ),
    "EmptySubBlock": (
        "quirk of the release",
        "All weights of a sub-block are zero. The release's encoder of IQ3_S does not step over its place, so the row "
        "numbers and signs of the sub-blocks that follow land one place early, and the block does not decode to what "
        "was encoded.",
    ),
    "ExponentWraps": (
        "quirk of the release",
        "The largest magnitude is below 2^-125. The release's encoder of MXFP4 lets the negative exponent wrap "
        "around in "
        "its byte, which gives a huge scale and codes of 0.",
    ),
    "RoundedLogarithm": (
        "E8M0 special",
        "The largest magnitude is just below a power of two. The release takes the floor of a logarithm in binary32, "
        "which has been rounded up to the power.",
    ),
    "LargestScales": (
        "quirk of the release",
        "The scale lies above 240. The release's encoder of NVFP4 knows only 448 there, not 256 to 416.",
    ),
    "WrappedScale": (
        "quirk of the release",
        "The search gives a sub-block a scale below zero, whose byte wraps around to a large one.",
    ),
}  # fmt: skip


def note(flag: str) -> dict[str, Any]:
    """The note of a flag, as a file holds it."""
    kind, description = NOTES[flag]
    links = KINDS[kind].seen if kind in KINDS else ()
    return {"bug_type": kind, "description": description, **({"links": list(links)} if links else {})}
