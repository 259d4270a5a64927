"""One pass over a tensor at the speed of memory: which pages hold one value only, and a fingerprint of every page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hifi_ref.model_files.files import release
from hifi_ref.model_files.gguf_model import CHUNK, Gguf, Tensor

# What file systems, page caches and disks lose or exchange at a time, counted from the file's first byte.
PAGE = 4096
_WORDS = PAGE // 8
_SAMPLES, _SAMPLE = 64, 32
# Every 64th word of a page enters its fingerprint with a factor of its own, every other one by the sum alone.
_FACTORS = np.random.Generator(np.random.PCG64(5)).integers(1, 2**63, _WORDS // 64, np.uint64) | np.uint64(1)


class Run(NamedTuple):
    """Bytes ``start`` to ``stop`` of the file that repeat ``word``, the eight bytes of each multiple of 8."""

    start: int
    stop: int
    word: int


@dataclass
class Survey:
    """What one pass over a tensor found.

    ``runs`` are the longest runs of one word, in whole pages and, where zero, the pieces of pages at both ends.
    ``samples`` are bytes from all over it, for the comparison with other tensors;
    ``prints`` u64[pages] are the fingerprints of the pages from ``first`` on that lie in the tensor; 0 where a page
    repeats one word.
    """

    tensor: Tensor
    first: int
    prints: np.ndarray
    runs: list[Run] = field(default_factory=list)
    samples: bytes = b""

    @property
    def stop(self) -> int:
        return self.tensor.start + self.tensor.known_nbytes

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; of the whole tensor where it has one dimension."""
        rows = 1
        for n in self.tensor.shape[1:]:
            rows *= n
        return max(1, self.tensor.known_nbytes // max(1, rows))

    @property
    def zero(self) -> bool:
        """Every byte is zero."""
        return len(self.runs) == 1 and self.runs[0] == (self.tensor.start, self.stop, 0)


def of_hole(tensor: Tensor) -> Survey:
    """What reading a tensor of zeros would find, without a look at its bytes."""
    found = _nothing_yet(tensor)
    found.runs.append(Run(tensor.start, found.stop, 0))
    found.samples = bytes(_SAMPLES * _SAMPLE)
    # One zero for all pages: a hole may be larger than memory.
    found.prints = np.broadcast_to(np.uint64(0), found.prints.shape)
    return found


def _nothing_yet(tensor: Tensor) -> Survey:
    start, stop = tensor.start, tensor.start + tensor.known_nbytes
    first, last = min(stop, -(-start // PAGE) * PAGE), max(start, stop // PAGE * PAGE)
    if last < first:
        first = last = stop
    return Survey(tensor, first, np.zeros((last - first) // PAGE, np.uint64))


def survey(gguf: Gguf, tensor: Tensor) -> Survey:
    """Read a readable tensor once. Needs eight bytes a page."""
    found = _nothing_yet(tensor)
    found.samples = _samples(gguf, tensor.start, found.stop)
    first, last = found.first, found.first + len(found.prints) * PAGE
    _add_zeros(gguf, found, tensor.start, first)
    for at in range(first, last, CHUNK):
        words = np.frombuffer(gguf.data, np.uint64, min(CHUNK, last - at) // 8, at).reshape(-1, _WORDS)
        sums = words.sum(axis=1, dtype=np.uint64)
        prints = sums + (words[:, ::64] * _FACTORS).sum(axis=1, dtype=np.uint64)
        alike = np.flatnonzero(sums == words[:, 0] * np.uint64(_WORDS))
        alike = alike[(words[alike] == words[alike, :1]).all(axis=1)]
        prints[alike] = 0
        for pages in np.split(alike, np.flatnonzero((np.diff(alike) > 1) | (np.diff(words[alike, 0]) != 0)) + 1):
            if len(pages):
                _extend(found.runs, at + int(pages[0]) * PAGE, at + int(pages[-1] + 1) * PAGE, int(words[pages[0], 0]))
        page = (at - first) // PAGE
        found.prints[page : page + len(prints)] = prints
        release(gguf.data, at, at + words.nbytes)
    _add_zeros(gguf, found, last, found.stop)
    return found


def _samples(gguf: Gguf, start: int, stop: int) -> bytes:
    """A fingerprint that costs the same for every tensor."""
    room = max(0, stop - start - _SAMPLE)
    places = [start + room * i // (_SAMPLES - 1) for i in range(_SAMPLES)]
    samples = []
    for at in places:
        samples.append(gguf.data[at : at + _SAMPLE])
        # The system may map megabytes around a byte that is read.
        release(gguf.data, start, stop)
    return b"".join(samples)


def _add_zeros(gguf: Gguf, found: Survey, start: int, stop: int) -> None:
    """A piece of a page at an end of the tensor, where it is all zero."""
    if start < stop and not np.frombuffer(gguf.data, np.uint8, stop - start, start).any():
        _extend(found.runs, start, stop, 0)


def _extend(runs: list[Run], start: int, stop: int, word: int) -> None:
    if runs and runs[-1].stop == start and runs[-1].word == word:
        runs[-1] = runs[-1]._replace(stop=stop)
    else:
        runs.append(Run(start, stop, word))
