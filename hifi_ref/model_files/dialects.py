"""Which block format a type id stands for: llama.cpp and its forks give some numbers different meanings.

Each table holds what a reader of that dialect knows, in its own words: name, weights per block, bytes per block and
bytes per row beside its blocks. Where a name is a key of FORMATS, and the sizes agree, the format is defined here.

Not in any table, since later layouts took their numbers: Q3_K_HIFI under the numbers 12 and 41, and Q5_K_HIFI_RES8 of
198 and 200 bytes, both of the HIFI fork before March 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hifi_ref.model_files.tensor_types import TensorType

REFERENCE = "llama.cpp"


class Dialect(NamedTuple):
    """What one family of writers means by its type ids. One that is not ``current`` has been replaced by another."""

    says: str
    ids: Mapping[int, TensorType]
    current: bool = True


def _table(text: str) -> dict[int, TensorType]:
    """Entries "id name block_size type_size [row_bytes]", one per line."""
    rows = [line.split() for line in text.split("\n") if line.strip()]
    return {int(i): TensorType(name, *map(int, sizes)) for i, name, *sizes in rows}


_OLD = _table("""
    0 F32 1 4
    1 F16 1 2
    2 Q4_0 32 18
    3 Q4_1 32 20
    6 Q5_0 32 22
    7 Q5_1 32 24
    8 Q8_0 32 34
    9 Q8_1 32 36
    10 Q2_K 256 84
    11 Q3_K 256 110
    12 Q4_K 256 144
    13 Q5_K 256 176
    14 Q6_K 256 210
    15 Q8_K 256 292
    16 IQ2_XXS 256 66
    17 IQ2_XS 256 74
    18 IQ3_XXS 256 98
    19 IQ1_S 256 50
    20 IQ4_NL 32 18
    21 IQ3_S 256 110
    22 IQ2_S 256 82
    23 IQ4_XS 256 136
    24 I8 1 1
    25 I16 1 2
    26 I32 1 4
    27 I64 1 8
    28 F64 1 8
    29 IQ1_M 256 56
    30 BF16 1 2
    39 MXFP4 32 17
""")
_TERNARY = _table("""
    34 TQ1_0 256 54
    35 TQ2_0 256 66
""")
_HIFI = """
    {0} Q3_K_HIFI 256 136
    {1} Q6_K_HIFI 256 222
    {2} Q6_K_HIFI_DYNAMIC 256 236
    {3} Q6_K_HIFI_RES8 256 232
    {4} Q5_K_HIFI_RES8 256 196
    {5} Q3_K_HIFI_RES8 256 132
    {6} Q4_K_HIFI 256 168
    {7} Q2_K_HIFI 256 96
"""

DIALECTS: dict[str, Dialect] = {
    REFERENCE: Dialect(
        "llama.cpp v0.5.0",
        _OLD | _TERNARY | _table("""
            40 NVFP4 64 36
            41 Q1_0 128 18
            42 Q2_0 64 18
        """),
    ),
    "hifi": Dialect(
        "the HIFI fork of llama.cpp, March 2026 (ids 40 to 47)",
        _OLD | _TERNARY | _table(_HIFI.format(*range(40, 48))),
    ),
    "hifi-lite": Dialect(
        "the HIFI fork of llama.cpp with the LITE types (ids 42 to 54)",
        _OLD | _TERNARY | _table("""
            40 NVFP4 64 36
            41 Q1_0 128 18
            50 Q2_K_LITE 256 96
            51 Q3_K_LITE 256 104
            52 Q4_K_LITE 256 128
            53 Q5_K_LITE 256 164
            54 Q6_K_LITE 256 196
        """) | _table(_HIFI.format(*range(42, 50))),
    ),
    "hifi-2025-12": Dialect(
        "the HIFI fork of llama.cpp, December 2025",
        _OLD | _TERNARY | _table("40 Q3_K_HIFI_134 256 134"),
        current=False,
    ),
    "hifi-2026-01": Dialect(
        "the HIFI fork of llama.cpp, January 2026",
        _OLD | _TERNARY | _table("40 Q3_K_HIFI_160 256 160"),
        current=False,
    ),
    "prism": Dialect(
        "the PrismML fork of llama.cpp, for its 1-bit and ternary models",
        _OLD | _TERNARY | _table("""
            40 Q1_0_G32 32 6
            41 Q1_0 128 18
            42 Q2_0_G128 128 34
        """),
    ),
    "turboquant": Dialect(
        "llama-cpp-turboquant, May 2026",
        _OLD | _TERNARY | _table("""
            40 NVFP4 64 36
            41 Q1_0 128 18
            45 TQ3_1S 32 16
            46 TQ4_1S 32 20
        """),
    ),
    "ik_llama.cpp": Dialect(
        "ik_llama.cpp, August 2026",
        _OLD | _table("""
            41 Q1_0 128 18
            133 Q6_0 32 26
            134 IQ1_BN 64 13 2
            135 IQ2_BN 64 16 4
            137 IQ2_K 256 76
            138 IQ3_K 256 110
            139 IQ4_K 256 144
            140 IQ5_K 256 176
            141 IQ6_K 256 212
            144 IQ4_KS 256 136 4
            145 IQ2_KS 256 70 2
            146 IQ4_KSS 256 128 4
            151 Q8_KV 32 32 8
            152 IQ5_KS 256 168 4
            153 IQ2_KT 256 68 4
            154 IQ3_KT 256 100 4
            155 IQ4_KT 256 128 4
            156 IQ3_KS 256 102 2
            157 IQ2_KL 256 86 2
            158 IQ1_KT 256 56 4
            202 Q4_0_R8 32 18
            206 Q5_0_R4 32 22
            208 Q8_0_R8 32 34
            210 Q2_K_R4 256 84
            211 Q3_K_R4 256 110
            212 Q4_K_R4 256 144
            213 Q5_K_R4 256 176
            214 Q6_K_R4 256 210
            216 IQ2_XXS_R4 256 66
            217 IQ2_XS_R4 256 74
            218 IQ3_XXS_R4 256 98
            219 IQ1_S_R4 32 6 2
            220 IQ4_NL_R4 32 18
            221 IQ3_S_R4 256 110
            222 IQ2_S_R4 256 82
            223 IQ4_XS_R8 256 136
            229 IQ1_M_R4 32 7 2
            230 BF16_R16 1 2
            233 Q6_0_R4 32 26
            335 IQ2_BN_R4 64 16 4
            337 IQ2_K_R4 256 76
            338 IQ3_K_R4 256 110
            339 IQ4_K_R4 256 144
            340 IQ5_K_R4 256 176
            344 IQ4_KS_R4 256 136 4
            352 IQ5_KS_R4 256 168 4
            353 MXFP4_R8 32 17
            397 Q8_K_R16 256 258
            398 Q8_KV_R8 32 32 4
            399 Q8_K_R8 256 258
        """),
    ),
}  # fmt: skip
