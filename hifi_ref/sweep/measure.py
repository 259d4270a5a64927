"""All configurations over all weights: sums added up group by group of matrices, going on after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hifi_ref.lanes.numpy_lane import each
from hifi_ref.model_files.files import InputError, give_back, share_heaps, write_atomically
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.sweep import hyper, one_by_one
from hifi_ref.sweep.configurations import Configuration, choice_of
from hifi_ref.sweep.losses import SUMS
from hifi_ref.sweep.weights import Matrix

# What one configuration that is taken by itself costs, in configurations of Hyper-Quantization.
COST = 80


class Measured(NamedTuple):
    """``sums``: one row of losses.SUMS a configuration; ``left_out``: why some could not store these weights."""

    sums: np.ndarray
    left_out: dict[str, str]


def measure(
    matrices: Sequence[Matrix],
    configurations: Sequence[Configuration],
    state: str | None = None,
    advance: Callable[..., object] = lambda done, name="": None,
) -> Measured:
    """The sums of all configurations over all weights.

    ``state``: a file that keeps what is done; what an interrupted run over the same left there is not done again.
    ``advance`` is called with what is done, in per cent, and the name of what is worked on.

    Raises InputError, OSError.
    """
    share_heaps()
    groups = list(_groups(matrices))
    digest = _digest(matrices, configurations)
    done, found = _load(state, digest, len(configurations))
    weights = sum(matrix.size for matrix in matrices)
    finished = sum(matrix.size for group in groups[:done] for matrix in group)
    advance(100 * finished / weights)
    for number, group in enumerate(groups[done:], done + 1):
        share = 100 * sum(matrix.size for matrix in group) / weights
        found = _added(found, _measured(group, configurations, share, advance))
        _save(state, digest, number, found)
        # Rows of another length are compiled anew, which takes memory for a while.
        give_back()
    return found


def _groups(matrices: Sequence[Matrix]) -> Iterator[list[Matrix]]:
    """Matrices that one chunk holds."""
    group: list[Matrix] = []
    for matrix in matrices:
        if group and sum(m.size for m in group) + matrix.size > hyper.CHUNK:
            yield group
            group = []
        group.append(matrix)
    yield group


def _measured(
    group: list[Matrix], configurations: Sequence[Configuration], share: float, advance: Callable[..., object]
) -> Measured:
    found = np.zeros((len(configurations), len(SUMS)))
    reasons: dict[int, str] = {}
    wanted = {choice_of(c): i for i, c in enumerate(configurations) if c.scheme == "hyper"}
    others = [i for i, c in enumerate(configurations) if c.scheme != "hyper"]
    unit = share / (len(wanted) + COST * len(others))
    arrays = [matrix.read() for matrix in group]
    names = ", ".join(dict.fromkeys(matrix.tensor for matrix in group))
    if wanted:
        x = _flat([array.reshape(-1) for array in arrays])
        rows = hyper.sums(x, _importance(group), {choice: n for n, choice in enumerate(wanted)},
                          lambda part: advance(part * len(wanted) * unit, names))  # fmt: skip
        found[list(wanted.values())] = rows

    def one(n: int) -> None:
        i = others[n]
        for matrix, array in zip(group, arrays, strict=True):
            try:
                found[i] += one_by_one.sums(array, matrix.importance, configurations[i])
            except ValueError as error:
                reasons[i] = str(error).splitlines()[0]
        advance(COST * unit, names)

    each(one, range(len(others)))
    return Measured(found, {configurations[i].name: reasons[i] for i in sorted(reasons)})


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    """In one line, each cut to whole super-blocks."""
    return np.concatenate([array[: array.size // hyper.SPAN * hyper.SPAN] for array in arrays])


def _importance(group: list[Matrix]) -> np.ndarray | None:
    """Of each weight, 0 where it is not known; None where none is."""
    if all(matrix.importance is None for matrix in group):
        return None
    own = [np.zeros(m.shape[1], np.float32) if m.importance is None else m.importance for m in group]
    return _flat([np.tile(row, matrix.shape[0]) for row, matrix in zip(own, group, strict=True)])


def _added(a: Measured, b: Measured) -> Measured:
    return Measured(a.sums + b.sums, a.left_out | b.left_out)


# WHAT IS KEPT


def _digest(matrices: Sequence[Matrix], configurations: Sequence[Configuration]) -> str:
    """Stands for all that the sums depend on, with some of each matrix's weights for all of them."""
    state = hashlib.sha256(json.dumps([c.name for c in configurations]).encode())
    for matrix in (*matrices[:2], matrices[-1]):
        state.update(matrix.read().tobytes())
    for matrix in matrices:
        state.update(f"{matrix.tensor} {matrix.shape}".encode())
        state.update(b"" if matrix.importance is None else matrix.importance.tobytes())
    return state.hexdigest()


def _load(path: str | None, digest: str, count: int) -> tuple[int, Measured]:
    nothing = 0, Measured(np.zeros((count, len(SUMS))), {})
    if path is None or not os.path.isfile(path):
        return nothing
    try:
        state = json.loads(Path(path).read_text())
        if state["digest"] != digest:
            return nothing
        sums = np.array(state["sums"], np.float64).reshape(count, len(SUMS))
        return int(state["groups"]), Measured(sums, {str(k): str(v) for k, v in state["left_out"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{printable(path)} is there, and is not what an interrupted sweep keeps") from None


def _save(path: str | None, digest: str, groups: int, found: Measured) -> None:
    """Whole or not at all. Raises OSError."""
    if path is not None:
        state = {"digest": digest, "groups": groups, "left_out": found.left_out, "sums": found.sums.tolist()}
        write_atomically(path, json.dumps(state))
