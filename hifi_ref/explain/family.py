"""To which family a format belongs, what it is good for, and since when llama.cpp has it."""

from __future__ import annotations

from typing import NamedTuple

from hifi_ref.explain.places import base_of
from hifi_ref.formats import FORMATS, HIFI


class Family(NamedTuple):
    """Formats that are made alike; ``says`` what they have in common, ``good_for`` what they serve."""

    name: str
    formats: tuple[str, ...]
    says: str
    good_for: str


FAMILIES = (
    Family(
        "plain floats", ("F32", "F16", "BF16"),
        "One weight is one block: a float of 32 or 16 bits, without a scale.",
        "Norms and other small tensors, sources of quantization, and caches.",
    ),
    Family(
        "one scale a block", ("Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
        "A few dozen weights share one binary16 scale, and in Q4_1 and Q5_1 a min; each weight is a code of so many "
        "bits. The oldest and simplest formats of the library, and the simplest for kernels.",
        "Rows that super-blocks of 256 do not fill; Q8_0 as nearly lossless storage, and for activations and caches; "
        "Q1_0 and Q2_0 for models that were trained for one bit and for three values.",
    ),
    Family(
        "activations", ("Q8_1", "Q8_K"),
        "Codes of 8 bits, their scale, and sums of the codes, which formats with mins need in a dot product.",
        "The other side of a dot product, made anew for each row of activations; no file stores them.",
    ),
    Family(
        "K: super-blocks", ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
        "256 weights make a super-block of 8 or 16 sub-blocks. Each sub-block has a scale, and in Q2_K, Q4_K and Q5_K "
        "a min, of a few bits, which are themselves multiples of binary16 scales: scales of scales.",
        "Most published files: mixtures such as Q4_K_M are made of them. They need no importance, and gain by it.",
    ),
    Family(
        "IQ: rows of a grid", ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"),
        "Eight or four weights at a time are the number of a row in a fixed table, the grid, of the commonest "
        "combinations of magnitudes; signs are kept apart.",
        "The smallest files, 1.5 to 3.5 bits a weight. Encoding is slow, and needs an importance matrix, or is much "
        "better with one; decoding looks rows up.",
    ),
    Family(
        "unequal steps", ("IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4"),
        "A code of 4 bits is the number of one of sixteen steps that are not equally far apart: finer near zero in "
        "IQ4, the values of a small float in MXFP4 and NVFP4.",
        "IQ4_XS where Q4_K is too large by little; IQ4_NL for rows that super-blocks do not fill; MXFP4 and NVFP4 for "
        "models that come in these formats.",
    ),
    Family(
        "ternary", ("TQ1_0", "TQ2_0"),
        "Each weight is minus one, zero or one times the scale of its super-block.",
        "Models that were trained for ternary weights, such as BitNet's and TriLM's; others lose nearly all.",
    ),
    Family(
        "HIFI and LITE", tuple(HIFI),
        "A K format and, behind its bytes, a few weights of each super-block kept apart: as binary16 outliers in "
        "place of its own weights, or as corrections that are added.",
        "Tensors with few weights far out. Against formats of equal size they gain nothing on usual weights; "
        "llama.cpp itself does not read them, a fork does.",
    ),
)  # fmt: skip
# The first release of docs/history.md that has a format; all others were there in its first, b3889 of October 2024.
CAME = {"MXFP4": "b6122", "NVFP4": "b8352", "Q1_0": "b9842", "Q2_0": "b10068"}
FIRST_LOOKED_AT = "b3889"
# Where a format was added to llama.cpp: pull requests, as far as they are known here.
PULLS = {
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 1684),
    "IQ2_XS": 4856,
    "IQ3_XXS": 5196,
    **dict.fromkeys(("TQ1_0", "TQ2_0"), 8151),
    "MXFP4": 15091,
    "NVFP4": 19769,
}


def family_of(name: str) -> Family:
    """The family that a format is in."""
    return next(family for family in FAMILIES if name in family.formats)


def history_of(name: str) -> str:
    """Since when llama.cpp, or the fork, has a format."""
    if name in HIFI:
        number = FORMATS[name].type_id
        there = (
            "A fork of llama.cpp, HIFI, has it"
            if number is not None
            else "No program writes it: a roadmap of a fork of llama.cpp, HIFI, describes it"
        )
        return f"{there}; its base {base_of(name)} is llama.cpp's."
    came = CAME.get(name)
    since = (
        f"In releases since {came}"
        if came
        else f"In every release since {FIRST_LOOKED_AT} (October 2024), the first that was looked at"
    )
    pull = PULLS.get(name)
    added = f" It was added by https://github.com/ggml-org/llama.cpp/pull/{pull}." if pull else ""
    return f"{since}.{added}"
