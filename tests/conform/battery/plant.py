"""What a planted bug is."""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """In a section of kernels.c one text stands in another's place. words: what a right diagnosis says, as a pattern."""

    section: str
    old: str
    new: str
    words: str
