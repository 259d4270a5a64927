"""Pages that were lost and filled with one value, and pages that were written twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.check.damage.edges import cut_out, same_out
from hifi_ref.check.damage.survey import PAGE, Run, Survey
from hifi_ref.check.damage.tensors import same_bytes
from hifi_ref.model_files.gguf_file import Gguf
from hifi_ref.model_files.remote import need

# Of these types the encoder writes no block of zero bytes: their code for zero is not 0.
NEVER_ZERO = ("Q1_0", "Q2_0", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0")
# Runs of equal pages that are looked at: a file made of copies has millions of pages alike, in few runs.
RUNS = 10_000


class Twice(NamedTuple):
    """Pages of ``one`` from byte ``start`` on that stand again at ``again``, in ``other``."""

    one: Survey
    other: Survey
    start: int
    again: int
    length: int


def lost(gguf: Gguf, surveys: Sequence[Survey]) -> list[tuple[Survey, list[Run]]]:
    """Of each tensor, in the file's order, the runs of one word that pages explain and its rows do not."""
    found: dict[int, list[Run]] = {}
    for i, survey in enumerate(surveys):
        runs = [run for run in survey.runs if run.stop - run.start >= PAGE // 8 and cut_out(gguf, survey, run)]
        if not runs and survey.tensor.known_type.name in NEVER_ZERO:
            runs = [run for run in survey.runs if run.word == 0 and run.stop - run.start >= PAGE]
        if runs:
            found[i] = runs
    # A hole that goes on over whole tensors.
    for order in (range(1, len(surveys)), range(len(surveys) - 2, -1, -1)):
        step = order.step
        for i in order:
            before, survey = surveys[i - step], surveys[i]
            edge = before.stop if step > 0 else before.tensor.start
            torn = any(run.word == 0 and edge in (run.start, run.stop) for run in found.get(i - step, []))
            if torn and survey.zero and i not in found:
                found[i] = survey.runs
    return [(surveys[i], found[i]) for i in sorted(found)]


def twice(gguf: Gguf, surveys: Sequence[Survey]) -> list[Twice]:
    """Pages that stand in the file again, where the tensors' rows do not explain it."""
    again = _shared(surveys)
    if not len(again):
        return []
    # Of millions of pages few are left.
    places = [np.flatnonzero(np.isin(s.prints, again)) for s in surveys]
    at = np.concatenate([s.first // PAGE + place for s, place in zip(surveys, places, strict=True)])
    of = np.repeat(np.arange(len(surveys)), [len(place) for place in places])
    prints = np.concatenate([s.prints[place] for s, place in zip(surveys, places, strict=True)])
    order = np.argsort(prints, kind="stable")
    alike = np.flatnonzero(prints[order[1:]] == prints[order[:-1]])
    pairs = np.stack([order[alike], order[alike + 1]], axis=1)
    found = []
    for one, other, start, distance, length in _runs(pairs[np.argsort(pairs[:, 0])], at, of):
        a, b = surveys[one], surveys[other]
        if same_out(gguf, a, b, start, distance, length) and same_bytes(gguf, start, start + distance, length):
            if not _repetitive(gguf, a, start):
                found.append(Twice(a, b, start, start + distance, length))
    return found


def _shared(surveys: Sequence[Survey]) -> np.ndarray:
    """The fingerprints that more than one page has, rising; 0 is none."""
    prints = np.concatenate([np.zeros(0, np.uint64), *(s.prints for s in surveys)])
    prints.sort()
    return np.unique(prints[1:][(prints[1:] == prints[:-1]) & (prints[1:] != 0)])


def _runs(pairs: np.ndarray, at: np.ndarray, of: np.ndarray) -> Iterator[tuple[int, int, int, int, int]]:
    """Pairs of equal pages [n, 2], joined where they follow each other: both tensors, first byte, distance, bytes."""
    if not len(pairs):
        return
    one, other = at[pairs[:, 0]], at[pairs[:, 1]]
    joined = (np.diff(one) == 1) & (np.diff(other) == 1) & (np.diff(of[pairs], axis=0) == 0).all(axis=1)
    starts = np.concatenate([[0], np.flatnonzero(~joined) + 1])
    stops = np.concatenate([starts[1:], [len(pairs)]])
    for start, stop in zip(starts[:RUNS], stops, strict=False):
        a, b = int(one[start]) * PAGE, int(other[start]) * PAGE
        yield int(of[pairs[start, 0]]), int(of[pairs[start, 1]]), a, b - a, int(stop - start) * PAGE


def _repetitive(gguf: Gguf, survey: Survey, start: int) -> bool:
    """Whether a page repeats one block or one row, as those of constant tensors do."""
    need(gguf.data, start, start + PAGE)
    page = np.frombuffer(gguf.data, np.uint8, PAGE, start)
    periods = (survey.tensor.known_type.type_size, survey.row_bytes)
    return any(period <= PAGE // 2 and (page[period:] == page[:-period]).all() for period in periods)
