"""Blocks that are not what the strict profile writes: which other build writes them?

Only these blocks are encoded again, by the slower text of the fused builds. A profile that does not explain half of the
first of them, or fewer than another profile, is not asked again.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.check.sourced import Piece, SourcedTensor, Way
from hifi_ref.check.tally import Tally, without_padding
from hifi_ref.formats import FORMATS, builds

# Differing blocks that decide whether a profile is asked about the others.
FIRST = 64


class Explained(NamedTuple):
    """A tally, and the profiles that write what differs in it, joined by "or": ``whole``.

    Or the tally of a profile that writes what differs from the one asked for but for damage. "" where none does.
    """

    tally: Tally
    profile: str
    whole: bool


class Tallies:
    """What comparing a tensor adds up to: by the profile asked for, and by those that may explain what differs.

    ``own`` is the profile asked for. Others are looked at where that is the strict one.
    """

    def __init__(self, sourced: SourcedTensor, way: Way) -> None:
        kind = sourced.tensor.known_type
        self.sourced, self.way = sourced, way
        self.own = Tally(kind, sourced.tensor.elements // kind.block_size)
        self.others: dict[str, Tally] | None = None

    def add(self, piece: Piece, observed: np.ndarray, expected: np.ndarray, x: np.ndarray, finite: np.ndarray) -> None:
        """Blocks u8[rows, blocks per row, type_size], f32[rows, row length], bool[rows, blocks per row]."""
        differs = (without_padding(self.sourced.tensor.known_type, observed) != expected).any(axis=2) & finite
        if self.others is None and differs.any():
            self.others = {name: copy.deepcopy(self.own) for name in self._candidates(piece, x, observed, differs)}
        per_row = self.sourced.blocks_per_row
        numbers = (piece.rows[:, None] * per_row + np.arange(per_row)).reshape(-1)
        shape = (len(numbers), -1)
        for profile, tally in ((None, self.own), *(self.others or {}).items()):
            blocks = expected
            if profile is not None and differs.any():
                written = self._written(profile, piece, x, differs)
                if written is None:
                    assert self.others is not None
                    del self.others[profile]
                    continue
                blocks = expected.copy()
                blocks[differs] = written
            tally.add(numbers, observed.reshape(shape), blocks.reshape(shape), x.reshape(shape), finite.reshape(-1))

    def _candidates(self, piece: Piece, x: np.ndarray, observed: np.ndarray, differs: np.ndarray) -> list[str]:
        """The profiles that explain most of the first blocks that differ, and at least half of them."""
        name = self.sourced.tensor.known_type.name
        if self.sourced.profile != builds.STRICT or self.sourced.is_copied(self.way):
            return []
        first = differs & (np.cumsum(differs).reshape(differs.shape) <= FIRST)
        seen = without_padding(self.sourced.tensor.known_type, observed)[first]
        written = {
            profile: self._written(profile, piece, x, first)
            for profile in builds.BUILDS
            if name in builds.known_formats(profile)
        }
        explained = {
            profile: int((blocks == seen).all(axis=1).sum())
            for profile, blocks in written.items()
            if blocks is not None
        }
        most = max(explained.values(), default=0)
        return [profile for profile, n in explained.items() if n == most and 2 * n >= len(seen)]

    def _written(self, profile: str, piece: Piece, x: np.ndarray, where: np.ndarray) -> np.ndarray | None:
        """u8[n, type_size]: the blocks of a piece at bool[rows, blocks per row], as that profile writes them.

        None where that is not known of all of them.
        """
        try:
            return self._blocks(profile, piece, x, where)
        except exact.UnknownBlocks:
            return None

    def _blocks(self, profile: str, piece: Piece, x: np.ndarray, where: np.ndarray) -> np.ndarray:
        kind, size = self.sourced.tensor.known_type, self.sourced.tensor.known_type.block_size
        importance = self.sourced.importance(piece, self.way)
        x = np.where(np.isfinite(x), x, np.float32(0))
        if importance is not None and FORMATS[kind.name].row_scoped:
            rows = where.any(axis=1)
            blocks = self.sourced.encode(x[rows], importance, self.way.outliers, profile)
            return blocks.reshape(len(blocks), -1, kind.type_size)[where[rows]]
        if importance is not None:
            importance = np.tile(importance.reshape(-1, size), (len(x), 1, 1))[where].reshape(-1)
        chosen = x.reshape(*where.shape, size)[where].reshape(1, -1)
        return self.sourced.encode(chosen, importance, self.way.outliers, profile).reshape(-1, kind.type_size)

    def best(self) -> Explained:
        others = self.others or {}
        whole = [profile for profile, tally in others.items() if not tally.differing]
        if whole or not others:
            return Explained(self.own, " or ".join(whole), bool(whole))
        profile = min(others, key=lambda name: others[name].differing)
        rest = others[profile]
        # A build that is not known may write most of what one writes that is: only damage stands out from a build
        return Explained(rest, profile, False) if rest.is_like_damage() else Explained(self.own, "", False)
