"""Which block format a type id stands for: llama.cpp and its forks give some numbers different meanings.

A file does not say which fork wrote it. Its tensors do, where sizes differ: the offsets tell how many bytes each tensor
has, and a dialect fits when its formats need just so many. `resolve` names the only dialect that fits, or none.

Each table holds what a reader of that dialect knows, in its own words: name, weights a block, bytes a block and bytes a
row beside its blocks. Where a name is a key of FORMATS, and the sizes agree, the format is defined here.

Not in any table, since later layouts took their numbers: Q3_K_HIFI under the numbers 12 and 41, and Q5_K_HIFI_RES8 of
198 and 200 bytes, both of the HIFI fork before March 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hifi_ref.formats import FORMATS

# Types of plain numbers that are no block formats.
PLAIN = ("F64", "I8", "I16", "I32", "I64")


class TensorType(NamedTuple):
    """A type id's meaning: ``type_size`` bytes hold ``block_size`` weights; ``row_bytes`` come on top of each row."""

    name: str
    block_size: int
    type_size: int
    row_bytes: int = 0


def is_defined(kind: TensorType) -> bool:
    """Whether blocks of this type mean something here: a format of FORMATS, or plain numbers."""
    if kind.name in FORMATS:
        f = FORMATS[kind.name]
        return kind == (f.name, f.block_size, f.type_size, 0)
    return kind.block_size == 1 and kind.name in PLAIN


class Dialect(NamedTuple):
    """What one family of writers means by its type ids. One that is not ``current`` has been replaced by another."""

    says: str
    ids: Mapping[int, TensorType]
    current: bool = True


class Claim(NamedTuple):
    """What a file says of one tensor: its type id and shape, row length first, and how many bytes it may have.

    ``low`` to ``high``, both inclusive: padding hides the exact number. None where the offsets make no sense.
    """

    type_id: int
    shape: tuple[int, ...]
    low: int | None = None
    high: int | None = None


class Resolution(NamedTuple):
    """The dialect that a file is read in, and why where it is not llama.cpp's; ``fits`` says whether any did.

    ``contested`` are the ids that dialects disagree about, where more than one fits: then ``name`` is llama.cpp's, and
    what those ids mean is left to the user.
    """

    name: str
    fits: bool
    why: str = ""
    contested: frozenset[int] = frozenset()


REFERENCE = "llama.cpp"


def _table(text: str) -> dict[int, TensorType]:
    """Entries "id name block_size type_size [row_bytes]", one a line."""
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

# Bytes of a block that can hold no more than this: (first, stop, most). They tell formats apart whose sizes padding
# hides: a count of outliers, bytes that are always zero, scales without a sign.
MARKS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "NVFP4": ((0, 4, 0x7E),),
    "Q3_K_HIFI": ((134, 136, 8),),
    "Q6_K_HIFI_DYNAMIC": ((210, 211, 8), (219, 220, 0)),
    "Q6_K_HIFI_RES8": ((210, 211, 8), (227, 228, 0)),
    "Q5_K_HIFI_RES8": ((176, 177, 8),),
    "Q3_K_HIFI_RES8": ((110, 111, 8), (111, 112, 0)),
    "Q2_K_HIFI": ((94, 96, 0),),
    "Q2_K_LITE": ((84, 85, 4),),
    "Q3_K_LITE": ((84, 85, 8),),
    "Q4_K_LITE": ((110, 111, 7),),
    "Q5_K_LITE": ((144, 145, 8),),
    "Q6_K_LITE": ((176, 177, 8),),
}


def nbytes(kind: TensorType, shape: Sequence[int]) -> int | None:
    """Bytes of a tensor of this shape, row length first; None where its rows are not whole blocks."""
    row, rows = (shape[0] if shape else 1), 1
    for n in shape[1:]:
        rows *= n
    if row % kind.block_size:
        return None
    return rows * (row // kind.block_size * kind.type_size + kind.row_bytes)


def fits(kind: TensorType | None, claim: Claim) -> bool:
    """Whether a tensor may be of this type: whole blocks, and as many bytes as its place in the file leaves it."""
    size = None if kind is None else nbytes(kind, claim.shape)
    return size is not None and (claim.high is None or claim.low <= size <= claim.high)


def bears_marks(kind: TensorType, data: bytes | memoryview) -> bool:
    """Whether whole blocks of this type can hold these bytes, as far as MARKS can tell."""
    blocks = len(data) // kind.type_size
    return all(
        data[i * kind.type_size + at] <= most
        for first, stop, most in MARKS.get(kind.name, ())
        for i in range(blocks)
        for at in range(first, stop)
    )


def resolve(claims: Sequence[Claim], read: Callable[[int, int], bytes] | None = None) -> Resolution:
    """The dialect that a file with these tensors is written in.

    Args:
        claims: one a tensor.
        read: read(i, n) returns the first n bytes of tensor i's data, or fewer; None where sizes alone shall decide.

    Llama.cpp's where all that the file says fits it, or nothing fits. Another's where that one alone fits. Where
    several fit that disagree about an id in use, and the blocks' own bytes cannot decide, the ids are ``contested``.
    Dialects that were replaced count where no other fits.
    """
    used = {claim.type_id for claim in claims}
    disputed = {i for i in used if len({d.ids.get(i) for d in DIALECTS.values()}) > 1}
    open_claims = [(n, claim) for n, claim in enumerate(claims) if claim.type_id in disputed]
    if not open_claims:
        return Resolution(REFERENCE, True)

    def agrees(dialect: Dialect) -> bool:
        return all(fits(dialect.ids.get(claim.type_id), claim) for _, claim in open_claims)

    fitting = {name: dialect for name, dialect in DIALECTS.items() if agrees(dialect)}
    able = _distinct({name: d for name, d in fitting.items() if d.current} or fitting, disputed)
    if len(able) > 1 and read is not None:
        marked = {name: d for name, d in able.items() if all(_marked(d, n, claim, read) for n, claim in open_claims)}
        able = marked or able
    if not able:
        return Resolution(REFERENCE, False)
    if len(able) > 1:
        between = {i for i in disputed if len({d.ids[i] for d in able.values()}) > 1}
        return Resolution(REFERENCE, True, _told(between, able), frozenset(between))
    ((name, dialect),) = able.items()
    foreign = {i for i in disputed if DIALECTS[REFERENCE].ids.get(i) != dialect.ids[i]}
    return Resolution(name, True, _told(foreign, able) if foreign else "")


def _distinct(able: dict[str, Dialect], disputed: set[int]) -> dict[str, Dialect]:
    """The dialects without those that mean the same by every disputed id as an earlier one."""
    seen: dict[tuple, str] = {}
    for name, dialect in able.items():
        seen.setdefault(tuple(dialect.ids[i] for i in sorted(disputed)), name)
    return {name: able[name] for name in seen.values()}


def _marked(dialect: Dialect, n: int, claim: Claim, read: Callable[[int, int], bytes]) -> bool:
    kind = dialect.ids[claim.type_id]
    return bears_marks(kind, read(n, min(nbytes(kind, claim.shape), 64 * kind.type_size)))


def _told(ids: set[int], able: Mapping[str, Dialect]) -> str:
    """What each dialect means by each of the ids, for a sentence."""
    return "; ".join(
        f"type id {i} is " + " or ".join(f"{d.ids[i].name} ({name})" for name, d in able.items()) for i in sorted(ids)
    )
