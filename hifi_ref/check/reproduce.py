"""One tensor against its source: is each block what the reference encoder writes from these weights?

The rows of a tensor are encoded again, a piece at a time, and compared byte for byte. `Way` says how: with which
importance, in which order of rows, through which rounding. Where the expected way fails on the first piece, the other
plausible ones are tried on a few rows, and the one that reproduces them is followed to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.check.profiles import Tallies
from hifi_ref.check.sourced import Piece, SourcedTensor, Way
from hifi_ref.check.tally import without_padding
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.source import Weights

# Weights that are encoded and compared in one go.
PIECE = 1 << 21
# Weights that the other ways are tried on.
TRIAL = 1 << 15


def follow(
    sourced: SourcedTensor, ways: list[Way], sample: int | None, seed: int, progress: Callable[[int], object]
) -> tuple[Tallies, Way]:
    """Compare a tensor with its source; what was found, and the way in which it was expected.

    Args:
        ways: the expected one first.
        sample: look at about so many blocks, in whole rows drawn with ``seed``; None for all.
        progress: is called with the number of weights whenever some are done.
    """
    pieces = list(_pieces(sourced, sample, seed))
    way = ways[0]
    if pieces and len(ways) > 1 and not _reproduces(sourced, _trial(sourced, pieces[0]), way):
        way = next((w for w in ways[1:] if _reproduces(sourced, _trial(sourced, pieces[0]), w)), way)
    tallies = Tallies(sourced, way)
    for piece in pieces:
        x = sourced.source(piece, way)
        observed = sourced.observed(piece.rows)
        expected, finite = sourced.expected(x, piece, way)
        tallies.add(piece, observed, expected, x, finite)
        sourced.forget()
        progress(x.size)
    return tallies, way


def ways_to_make(
    tensor: Tensor, weights: Weights, importance: np.ndarray | None, layouts: dict[str, np.ndarray]
) -> list[Way]:
    """The ways a tensor may have been made, the expected one first."""
    f = FORMATS[tensor.known_type.name]
    quantized = f.block_size > 1
    orders: dict[str, np.ndarray | None] = {"": None, **layouts}
    importances: list[np.ndarray | None] = [importance] if importance is not None and quantized else [None]
    if importances[0] is not None and not f.requires_weights:
        importances.append(None)
    roundings: list[str | None] = [None]
    if weights.kind in ("F32", "BF16", "F64") and tensor.known_type.name != "F16":
        roundings += ["F16"] if weights.kind == "BF16" else ["F16", "BF16"]
    return [
        Way(_way_name(bool(order), i is not importances[0], through), i, orders[order], through, n)
        for through in roundings
        for i in importances
        for order in orders
        for n in (None, *(f.outliers or ()))
    ]


def _way_name(reordered: bool, without_importance: bool, through: str | None) -> str:
    parts = [
        *(["order"] if reordered else []),
        *(["importance"] if without_importance else []),
        *([f"rounded to {through}"] if through else []),
    ]
    return "+".join(parts)


def _pieces(sourced: SourcedTensor, sample: int | None, seed: int) -> Iterator[Piece]:
    shape = sourced.tensor.shape
    rows = sourced.tensor.elements // sourced.row
    rows_per_matrix = shape[1] if len(shape) > 1 else 1
    chosen = np.arange(rows)
    if sample is not None:
        n = max(1, min(rows, -(-sample // sourced.blocks_per_row)))
        chosen = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
    step = max(1, PIECE // sourced.row)
    for matrix in np.unique(chosen // rows_per_matrix).tolist():
        own = chosen[chosen // rows_per_matrix == matrix]
        for start in range(0, len(own), step):
            yield Piece(matrix, own[start : start + step])


def _trial(sourced: SourcedTensor, piece: Piece) -> Piece:
    """A few rows of a piece, spread over it."""
    n = max(1, min(len(piece.rows), TRIAL // sourced.row))
    return Piece(piece.matrix, piece.rows[np.linspace(0, len(piece.rows) - 1, n).astype(int)])


def _reproduces(sourced: SourcedTensor, piece: Piece, way: Way) -> bool:
    """Whether nearly all blocks of a trial come out: a fused build, or a damaged block, does not send us astray."""
    blocks, finite = sourced.expected(sourced.source(piece, way), piece, way)
    observed = without_padding(sourced.tensor.known_type, sourced.observed(piece.rows))
    same = (blocks == observed).all(axis=2) | ~finite
    return bool(same.mean() >= 0.8)
