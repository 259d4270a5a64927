"""Where a run of bytes ends: at the edge of a page, of the tensor, or where rows and blocks explain it.

What a model means by equal bytes (rows of a padded vocabulary, pruned rows and columns, experts that are alike) begins
and ends with rows or with columns that other rows share. What storage does begins and ends with pages.
"""

from __future__ import annotations

import numpy as np

from hifi_ref.check.damage.scales import NORM
from hifi_ref.check.damage.survey import PAGE, Run, Survey
from hifi_ref.model_files.gguf_file import Gguf
from hifi_ref.model_files.remote import need

# An edge lies so many bytes from a page's at most: bytes beside the run may be alike by chance.
NEAR = 16
# Floats, of which many may be zero: so many weights.
NEAR_WEIGHTS = 64
# A run from a tensor's end must reach so far into the row where it stops.
REACH = 512


def cut_out(gguf: Gguf, survey: Survey, run: Run) -> bool:
    """Whether pages and not rows made this run: it ends at edges of pages or of the tensor, and once inside a row.

    A run that is the whole tensor is none.
    """
    tensor = survey.tensor
    at_start, at_stop = run.start == tensor.start, run.stop == survey.stop
    if at_start and at_stop or _shared_by_rows(gguf, survey, run):
        return False
    weight = tensor.known_type.type_size if tensor.known_type.block_size == 1 else 0
    near = max(NEAR, NEAR_WEIGHTS * weight)
    if len(tensor.shape) == 1:
        # Biases may be zero anywhere; of norms each weight counts.
        if not NORM.search(tensor.name):
            return False
        near = 0
    before = 0 if at_start else _like(gguf, max(tensor.start, run.start - PAGE), run.start, run.word, True)
    after = 0 if at_stop else _like(gguf, run.stop, min(survey.stop, run.stop + PAGE), run.word, False)
    if before > near or after > near:
        return False
    row = survey.row_bytes
    start, stop = run.start - before - tensor.start, run.stop + after - tensor.start
    if at_start != at_stop and (stop % row if at_start else -start % row) < min(REACH, row // 2):
        return False
    inside = [edge - tensor.start for edge, end in ((run.start, at_start), (run.stop, at_stop)) if not end]
    if len(tensor.shape) == 1 and weight and all(edge % (NEAR_WEIGHTS * weight) == 0 for edge in inside):
        return False
    # A row that begins in the run, or just after its start, explains the start; the end likewise.
    torn_start = not at_start and before + near < -start % row
    torn_stop = not at_stop and after + near < stop % row
    return torn_start or torn_stop


def _like(gguf: Gguf, start: int, stop: int, word: int, backwards: bool) -> int:
    """How many bytes of a range repeat the word without a break, from its end backwards or from its start on."""
    same = _bytes(gguf, start, stop) == _pattern(word, start, stop)
    other = np.flatnonzero(~same)
    if not len(other):
        return stop - start
    return stop - start - 1 - int(other[-1]) if backwards else int(other[0])


def _shared_by_rows(gguf: Gguf, survey: Survey, run: Run) -> bool:
    """Whether the row above or the row below repeats the word in the same columns too."""
    row, part = survey.row_bytes, min(PAGE, run.stop - run.start)
    above, below = run.start - row, run.stop + row - part
    return (above >= survey.tensor.start and _like(gguf, above, above + part, run.word, False) == part) or (
        run.stop + row <= survey.stop and _like(gguf, below, below + part, run.word, False) == part
    )


def same_out(gguf: Gguf, one: Survey, other: Survey, start: int, distance: int, length: int) -> bool:
    """Whether bytes ``start``, so many, of ``one`` and those at ``distance`` in ``other`` are alike as pages are."""
    left = min(PAGE, start - one.tensor.start, start + distance - other.tensor.start)
    right = min(PAGE, one.stop - start - length, other.stop - start - distance - length)
    stop = start + length
    before = _bytes(gguf, start - left, start) != _bytes(gguf, start + distance - left, start + distance)
    after = _bytes(gguf, stop, stop + right) != _bytes(gguf, stop + distance, stop + distance + right)
    ends = []
    for differs, edge, room in ((before[::-1], start, left), (after, stop, right)):
        alike = int(differs.argmax()) if differs.any() else room
        if alike > NEAR:
            return False
        # Where there is no room a tensor ends.
        if room > NEAR:
            ends.append(edge)
    return _out_of_step(one, other, start, distance) or any(
        _inside_row(one, edge) or _inside_row(other, edge + distance) for edge in ends
    )


def _out_of_step(one: Survey, other: Survey, start: int, distance: int) -> bool:
    """Whether what begins a block in one place is inside of a block in the other."""
    size = one.tensor.known_type.type_size
    if one.tensor.known_type != other.tensor.known_type:
        return True
    return (start - one.tensor.start - (start + distance - other.tensor.start)) % size != 0


def _inside_row(survey: Survey, edge: int) -> bool:
    past = (edge - survey.tensor.start) % survey.row_bytes
    return NEAR < past < survey.row_bytes - NEAR


def _bytes(gguf: Gguf, start: int, stop: int) -> np.ndarray:
    need(gguf.data, start, stop)
    return np.frombuffer(gguf.data, np.uint8, stop - start, start)


def _pattern(word: int, start: int, stop: int) -> np.ndarray:
    """uint8[stop - start]: the word's bytes, each multiple of 8 in the file beginning anew."""
    eight = np.array([word], np.uint64).view(np.uint8)
    return eight[np.arange(start, stop) % 8]
