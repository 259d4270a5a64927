"""What a planted bug is."""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """In a section of kernels.c one text in another's place. words: a pattern for what a right diagnosis says."""

    section: str
    old: str
    new: str
    words: str
