"""Which dialect a file is written in. The file does not say; its tensors do, where sizes differ.

Their offsets tell how many bytes each tensor has, and a dialect fits when its types need just so many. `resolve` names
the only dialect that fits, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hifi_ref.model_files.dialects import DIALECTS, REFERENCE, Dialect
from hifi_ref.model_files.tensor_types import TensorType, nbytes

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


def resolve(claims: Sequence[Claim], read: Callable[[int, int], bytes] | None = None) -> Resolution:
    """The dialect that a file with these tensors is written in.

    Args:
        claims: one per tensor.
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
        return Resolution(REFERENCE, True, _meanings(between, able), frozenset(between))
    ((name, dialect),) = able.items()
    foreign = {i for i in disputed if DIALECTS[REFERENCE].ids.get(i) != dialect.ids[i]}
    return Resolution(name, True, _meanings(foreign, able) if foreign else "")


def fits(kind: TensorType | None, claim: Claim) -> bool:
    """Whether a tensor may be of this type: whole blocks, and as many bytes as its place in the file leaves it."""
    size = None if kind is None else nbytes(kind, claim.shape)
    return size is not None and (claim.low is None or claim.high is None or claim.low <= size <= claim.high)


def bears_marks(kind: TensorType, data: bytes | memoryview) -> bool:
    """Whether whole blocks of this type can hold these bytes, as far as MARKS can tell."""
    blocks = len(data) // kind.type_size
    return all(
        data[i * kind.type_size + at] <= most
        for first, stop, most in MARKS.get(kind.name, ())
        for i in range(blocks)
        for at in range(first, stop)
    )


def _distinct(able: dict[str, Dialect], disputed: set[int]) -> dict[str, Dialect]:
    """The dialects without those that mean the same by every disputed id as an earlier one."""
    seen: dict[tuple, str] = {}
    for name, dialect in able.items():
        seen.setdefault(tuple(dialect.ids[i] for i in sorted(disputed)), name)
    return {name: able[name] for name in seen.values()}


def _marked(dialect: Dialect, n: int, claim: Claim, read: Callable[[int, int], bytes]) -> bool:
    kind = dialect.ids[claim.type_id]
    size = nbytes(kind, claim.shape)
    return size is None or bears_marks(kind, read(n, min(size, 64 * kind.type_size)))


def _meanings(ids: set[int], able: Mapping[str, Dialect]) -> str:
    """What each dialect means by each of the ids, for a sentence."""
    return "; ".join(
        f"type id {i} is " + " or ".join(f"{d.ids[i].name} ({name})" for name, d in able.items()) for i in sorted(ids)
    )
