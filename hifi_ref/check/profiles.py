"""Blocks that are not what the strict profile writes: which other build writes them?

Only these blocks are encoded again, once for each profile, or for several that compute alike, by the slower text of the
fused builds: many at a time, since it is slow to begin with. A profile that does not explain half of the first of them,
or fewer than another profile, is not asked again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.check.sourced import Piece, SourcedTensor, Way
from hifi_ref.check.tally import Tally, without_padding
from hifi_ref.formats import FORMATS, builds

# Differing blocks that decide whether a profile is asked about the others.
FIRST = 64
# Weights of differing blocks that are encoded in one go.
AT_A_TIME = 1 << 19


class Differing(NamedTuple):
    """Blocks that differ: their numbers[n], the file's u8[n, type_size] and their weights f32[n, block_size].

    They are encoded from ``rows`` f32[rows, row length], in which they stand at ``where`` bool[rows, blocks per row],
    with importance f32[row length] or none. That is one row made of them alone where the rest of a row does not matter.
    """

    numbers: np.ndarray
    observed: np.ndarray
    x: np.ndarray
    rows: np.ndarray
    where: np.ndarray
    importance: np.ndarray | None


class Explained(NamedTuple):
    """A tally, and the profiles that write what differs in it, joined by "or": ``whole``.

    Or the tally of a profile that writes what differs from the one asked for but for damage. "" where none does.
    """

    tally: Tally
    profile: str
    whole: bool


class Tallies:
    """What comparing a tensor adds up to: by the profile asked for, and by those that may explain what differs.

    ``same`` are the blocks that do not differ, ``differing`` those that do, by the profile asked for. Others are looked
    at where that is the strict one: of ``others``, None until they are known, each has what differs by that profile.
    """

    def __init__(self, sourced: SourcedTensor, way: Way) -> None:
        self.sourced, self.way = sourced, way
        self.same, self.differing = self._tally(), self._tally()
        self.others: dict[str, Tally] | None = None
        if sourced.profile != builds.STRICT or sourced.is_copied(way):
            self.others = {}
        f = FORMATS[sourced.tensor.known_type.name]
        self.of_rows = way.importance is not None and f.row_scoped
        self.waiting: list[Differing] = []

    def _tally(self) -> Tally:
        kind = self.sourced.tensor.known_type
        return Tally(kind, self.sourced.tensor.elements // kind.block_size)

    def add(self, piece: Piece, observed: np.ndarray, expected: np.ndarray, x: np.ndarray, finite: np.ndarray) -> None:
        """Blocks u8[rows, blocks per row, type_size], f32[rows, row length], bool[rows, blocks per row]."""
        kind, per_row = self.sourced.tensor.known_type, self.sourced.blocks_per_row
        differs = (without_padding(kind, observed) != expected).any(axis=2) & finite
        blocks = (
            (piece.rows[:, None] * per_row + np.arange(per_row)).reshape(-1), observed.reshape(-1, kind.type_size),
            expected.reshape(-1, kind.type_size), x.reshape(-1, kind.block_size), finite.reshape(-1),
        )  # fmt: skip
        if not differs.any():
            self.same.add(*blocks)
            return
        there = differs.reshape(-1)
        self.same.add(*(part[~there] for part in blocks))
        numbers, seen, written, weights, sound = (part[there] for part in blocks)
        self.differing.add(numbers, seen, written, weights, sound)
        if self.others != {}:
            seen = without_padding(kind, seen)
            self.waiting.append(Differing(numbers, seen, weights, *self._rows(piece, x, weights, differs)))
            if self.of_rows or sum(waiting.x.size for waiting in self.waiting) >= AT_A_TIME:
                self._ask()

    def _rows(
        self, piece: Piece, x: np.ndarray, weights: np.ndarray, differs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Where the blocks of a piece that differ are encoded: rows, places, importance."""
        importance = self.sourced.importance(piece, self.way)
        if self.of_rows:
            rows = differs.any(axis=1)
            return np.where(np.isfinite(x[rows]), x[rows], np.float32(0)), differs[rows], importance
        if importance is not None:
            of_blocks = np.broadcast_to(importance.reshape(-1, weights.shape[1]), (*differs.shape, weights.shape[1]))
            importance = of_blocks[differs].reshape(-1)
        return weights.reshape(1, -1), np.ones((1, len(weights)), bool), importance

    def _ask(self) -> None:
        """Encode what waits as the other profiles' builds do."""
        if not self.waiting:
            return
        blocks = self.waiting[0] if len(self.waiting) == 1 else _joined(self.waiting)
        self.waiting = []
        first = blocks.where & (np.cumsum(blocks.where).reshape(blocks.where.shape) <= FIRST)
        asked: dict[str, np.ndarray | None] = {}
        if self.others is None:
            asked = self._candidates(blocks, first)
            self.others = {profile: self._tally() for profile in asked}
        for profile in list(self.others):
            beginning = asked.get(profile)
            rest = blocks.where if beginning is None else blocks.where & ~first
            written = self._written(profile, blocks, rest) if rest.any() else beginning
            if written is None:
                del self.others[profile]
                continue
            if beginning is not None and rest.any():
                written = np.concatenate([beginning, written])
            self.others[profile].add(blocks.numbers, blocks.observed, written, blocks.x, np.ones(len(written), bool))

    def _candidates(self, blocks: Differing, first: np.ndarray) -> dict[str, np.ndarray | None]:
        """The profiles that explain most of the first blocks that differ, and at least half; and what they write."""
        name = self.sourced.tensor.known_type.name
        profiles = builds.told_apart(name, self.way.importance is not None)
        written = {profile: self._written(profile, blocks, first) for profile in profiles}
        seen = blocks.observed[: np.count_nonzero(first)]
        explained = {
            profile: int((found == seen).all(axis=1).sum()) for profile, found in written.items() if found is not None
        }
        most = max(explained.values(), default=0)
        return {profile: written[profile] for profile, n in explained.items() if n == most and 2 * n >= len(seen)}

    def _written(self, profile: str, blocks: Differing, where: np.ndarray) -> np.ndarray | None:
        """u8[n, type_size]: the blocks at bool[rows, blocks per row], as that profile writes them, or each of several.

        None where that is not known of all of them.
        """
        kind, rows, importance = self.sourced.tensor.known_type, blocks.rows, blocks.importance
        if self.of_rows:
            chosen = where.any(axis=1)
            rows, where = rows[chosen], where[chosen]
        else:
            rows = rows.reshape(-1, kind.block_size)[where[0]].reshape(1, -1)
            if importance is not None:
                importance = importance.reshape(-1, kind.block_size)[where[0]].reshape(-1)
            where = where[where][None]
        try:
            found = self.sourced.encode(rows, importance, self.way.outliers, profile.split(" or ")[0])
        except exact.UnknownBlocks:
            return None
        return found.reshape(*where.shape, kind.type_size)[where]

    def best(self) -> Explained:
        self._ask()
        own, others = self.same.plus(self.differing), self.others or {}
        whole = [profile for profile, tally in others.items() if not tally.differing]
        if whole or not others:
            return Explained(own, " or ".join(whole), bool(whole))
        profile = min(others, key=lambda name: others[name].differing)
        rest = self.same.plus(others[profile])
        # A build that is not known may write most of what one writes that is: only damage stands out from a build
        return Explained(rest, profile, False) if rest.is_like_damage() else Explained(own, "", False)


def _joined(several: list[Differing]) -> Differing:
    """Blocks whose rows do not matter, in one row."""
    numbers, observed, x = (np.concatenate(parts) for parts in zip(*(one[:3] for one in several), strict=True))
    importance = [one.importance for one in several if one.importance is not None]
    where = np.ones((1, len(x)), bool)
    return Differing(numbers, observed, x, x.reshape(1, -1), where, np.concatenate(importance) if importance else None)
