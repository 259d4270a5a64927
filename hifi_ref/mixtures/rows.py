"""What takes the place of a type whose blocks do not fill a row.

Reference: tensor_type_fallback of llama.cpp v0.5.0 (llama-quant.cpp), and of the HIFI fork (1de093b32).
"""

from __future__ import annotations

from collections.abc import Mapping

from hifi_ref.formats import FORMATS
from hifi_ref.formats.hifi.transcode import base_of

FALLBACK = {
    "IQ1_S": "IQ4_NL", "IQ1_M": "IQ4_NL", "IQ2_XXS": "IQ4_NL", "IQ2_XS": "IQ4_NL", "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL", "IQ3_S": "IQ4_NL", "IQ4_XS": "IQ4_NL",
    "Q2_0": "Q4_0", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
# The fork took over an older table.
FORK_FALLBACK = FALLBACK | dict.fromkeys(("Q2_K", "Q3_K", "Q2_K_HIFI", "Q3_K_HIFI"), "IQ4_NL")


def that_fits(format: str, row: int, fallback: Mapping[str, str] = FALLBACK) -> str:
    """The format, or what takes its place where a row is no whole number of its blocks; F16 where nothing fits.

    Formats of the fork that it knows no replacement for, and stops at, take that of their base.
    """
    while row % FORMATS[format].block_size:
        if format in fallback:
            format = fallback[format]
        elif FORMATS[format].dialect == "hifi":
            format = base_of(format).LAYOUT.name
        else:
            return "F16"
    return format
