"""What a text puts into the channels of each group: their largest magnitudes, and rows to try scales on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.commands import terminal
from hifi_ref.models.run import observed
from hifi_ref.smooth.groups import Group

if TYPE_CHECKING:
    from jaxtyping import Float32

# Rows that are kept of the inputs of a matrix.
SAMPLES = 128


class Seen(NamedTuple):
    """Of the first matrix of a group, for each of its experts: the largest magnitudes of its inputs' columns,
    float32[matrices, columns], and some of the inputs, float32[rows, columns] each."""

    largest: np.ndarray
    rows: list[np.ndarray]


def seen(
    path: str | os.PathLike[str], chunks: Sequence[Sequence[int]], groups: Sequence[Group], matrices: dict[str, int],
    mode: str,
) -> tuple[dict[str, Seen], Float32[np.ndarray, "n vocab"]]:  # fmt: skip
    """By the group's giver; and the logits of the first chunk.

    ``chunks``: the ids that are read, each from position 0. ``matrices``: how many a tensor has. Raises ModelError.
    """
    of_taker = {group.takers[0]: group.giver for group in groups}
    found: dict[str, Seen] = {}
    quota = -(-SAMPLES // len(chunks))

    def look(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
        if name not in of_taker:
            return
        kept = found.setdefault(of_taker[name], _nothing(matrices[name], x.shape[-1]))
        for number, rows in _by_matrix(x, chosen):
            kept.largest[number] = np.maximum(kept.largest[number], np.abs(rows).max(axis=0))
            here = rows[:: max(1, len(rows) // quota)][: min(quota, SAMPLES - len(kept.rows[number]))]
            kept.rows[number] = np.concatenate([kept.rows[number], here])

    first = None
    with terminal.progress(len(chunks), "chunks", "smooth") as advance:
        for chunk in chunks:
            logits = observed(path, chunk, look, mode)
            first = logits if first is None else first
            advance(1)
    assert first is not None
    return found, first


def _nothing(matrices: int, columns: int) -> Seen:
    return Seen(np.zeros((matrices, columns), np.float32), [np.zeros((0, columns), np.float32)] * matrices)


def _by_matrix(x: np.ndarray, chosen: np.ndarray | None) -> list[tuple[int, np.ndarray]]:
    """The rows that each matrix is multiplied with; of experts those that were routed to it."""
    if chosen is None:
        return [(0, x)]
    x = np.broadcast_to(x, (*chosen.shape, x.shape[-1]))
    return [(int(expert), x[chosen == expert]) for expert in np.unique(chosen)]
