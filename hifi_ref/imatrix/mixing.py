"""How many chunks each text of a mixture gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.commands.command_line import UsageError
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable


class Part(NamedTuple):
    """A text's path, and its share, a whole number above 0."""

    path: str
    share: int


def parts_of(words: Sequence[str]) -> list[Part]:
    """FILE:SHARE each. Raises UsageError."""
    parts = []
    for word in words:
        path, _, share = word.rpartition(":")
        if not path or not share.isdecimal() or int(share) < 1:
            raise UsageError(f"--mix is a list of FILE:SHARE, a share being a whole number, not {printable(word)!r}")
        parts.append(Part(path, int(share)))
    return parts


def chunks_of_each(parts: Sequence[Part], available: Sequence[int], total: int | None) -> list[int]:
    """Of ``total`` chunks, or of as many as the texts allow, each its share.

    Whole numbers by largest remainders, of equal ones the first. Raises InputError where a text has too few.
    """
    whole = sum(part.share for part in parts)
    if total is None:
        # By rounding a text may have to give less than its share.
        total = min(n * whole // part.share for part, n in zip(parts, available, strict=True)) + len(parts)
        while any(given > n for given, n in zip(_rounded(parts, total), available, strict=True)):
            total -= 1
    counts = _rounded(parts, total)
    for part, given, n in zip(parts, counts, available, strict=True):
        if given > n:
            raise InputError(f"{printable(part.path)} has {n} chunks, and {given} of {total} are its share")
    return counts


def _rounded(parts: Sequence[Part], total: int) -> list[int]:
    whole = sum(part.share for part in parts)
    counts = [part.share * total // whole for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: -(parts[i].share * total % whole))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
