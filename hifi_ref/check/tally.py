"""What comparing a tensor's blocks with the reference's adds up to: how many differ, where, and how good both are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.source import decode
from hifi_ref.model_files.tensor_types import TensorType

# Cells of a tensor's map; bars of its histogram, four per factor of two, from 2^-12 to 1.
CELLS = 256
BARS = 48
# Differing blocks whose errors are kept one by one.
KEPT = 4096


def like_damage(blocks: int, single_bytes: int, worse: int) -> bool:
    """Whether so many differing blocks, of one tensor or of several, are changed blocks rather than another build's.

    Half of what a fused build writes is better than the reference's blocks; damage is hardly ever.
    """
    return blocks <= 2 or single_bytes == blocks or (blocks >= 8 and worse >= 0.9 * blocks)


class Tally:
    """Sums over the blocks of one tensor. Errors are those of the decoded weights against the source's."""

    def __init__(self, kind: TensorType, blocks: int) -> None:
        self.kind, self.blocks = kind, blocks
        self.judged = self.differing = self.not_finite = 0
        self.first: dict[str, Any] | None = None
        self.fields: Counter[str] = Counter()
        # Of each differing block that is kept: number, the file's error squared, the reference's, bytes changed.
        self.changes: list[np.ndarray] = []
        self.square = self.error = self.reference_error = 0.0
        self.worst = (0.0, -1)
        self.map = np.zeros((4, CELLS))
        self.histogram = np.zeros(BARS, np.int64)

    def add(
        self, numbers: np.ndarray, observed: np.ndarray, expected: np.ndarray, x: np.ndarray, finite: np.ndarray
    ) -> None:
        """A piece: block numbers[n], the file's and the reference's u8[n, type_size], source f32[n, block_size]."""
        self.not_finite += int(len(finite) - np.count_nonzero(finite))
        if not finite.all():
            numbers, observed, expected, x = (a[finite] for a in (numbers, observed, expected, x))
        if not len(numbers):
            return
        self.judged += len(numbers)
        observed = without_padding(self.kind, observed)
        differs = (observed != expected).any(axis=1)
        with np.errstate(all="ignore"):
            error = _squares(_values(self.kind, observed) - x)
        reference = error
        if differs.any():
            reference = error.copy()
            with np.errstate(all="ignore"):
                reference[differs] = _squares(_values(self.kind, expected[differs]) - x[differs])
            self._note(numbers[differs], observed[differs], expected[differs], error[differs], reference[differs])
        self._measure(numbers, differs, error, reference, _squares(x))

    def plus(self, other: Tally) -> Tally:
        """The sums of both, of which ``other`` alone has blocks that differ, or neither."""
        total = Tally(self.kind, self.blocks)
        for name in ("judged", "differing", "not_finite", "square", "error", "reference_error", "map", "histogram"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        total.first, total.fields, total.changes = other.first, other.fields, other.changes
        total.worst = max(self.worst, other.worst, key=lambda worst: (worst[0], -worst[1]))
        return total

    def _note(
        self, numbers: np.ndarray, observed: np.ndarray, expected: np.ndarray, error: np.ndarray, reference: np.ndarray
    ) -> None:
        self.differing += len(numbers)
        if self.first is None:
            self.first = describe(self.kind, int(numbers[0]), observed[0], expected[0])
        changed = observed ^ expected
        layout = FORMATS[self.kind.name].layout
        for name in layout.names:
            self.fields[name] += int(np.count_nonzero(changed[:, layout.span(name)].any(axis=1)))
        room = KEPT - sum(len(change) for change in self.changes)
        if room > 0:
            touched = np.count_nonzero(changed[:room], axis=1)
            self.changes.append(np.stack([numbers[:room], error[:room], reference[:room], touched], axis=1))

    def _measure(
        self, numbers: np.ndarray, differs: np.ndarray, error: np.ndarray, reference: np.ndarray, square: np.ndarray
    ) -> None:
        # A weight that overflows makes a sum infinite; it is bounded here, and the payload rules tell of it.
        error, reference = np.nan_to_num(error, nan=1e300, posinf=1e300), np.nan_to_num(reference, nan=1e300)
        self.square += float(square.sum())
        self.error += float(error.sum())
        self.reference_error += float(reference.sum())
        with np.errstate(all="ignore"):
            relative = np.sqrt(error / square)
        relative = np.where(square > 0, relative, np.where(error > 0, np.inf, 0))
        worst = int(np.argmax(error))
        if error[worst] > self.worst[0]:
            self.worst = (float(error[worst]), int(numbers[worst]))
        cells = numbers * CELLS // max(1, self.blocks)
        for row, values in enumerate((differs, error, square, np.ones(len(numbers)))):
            self.map[row] += np.bincount(cells, values, CELLS)
        if self.kind.block_size > 1:
            bars = np.clip(np.floor(4 * np.log2(np.maximum(relative, 2.0**-12)) + BARS), 0, BARS - 1).astype(int)
            self.histogram += np.bincount(bars, minlength=BARS)

    @property
    def weights(self) -> int:
        return self.judged * self.kind.block_size

    def ratios(self) -> np.ndarray:
        """The file's error over the reference's, root mean square, of each differing block that was kept."""
        if not self.changes:
            return np.zeros(0)
        changes = np.concatenate(self.changes)
        with np.errstate(all="ignore"):
            ratio = np.sqrt(changes[:, 1] / changes[:, 2])
        return np.where(changes[:, 2] > 0, ratio, np.where(changes[:, 1] > 0, np.inf, 1.0))

    @property
    def single_bytes(self) -> int:
        """How many of the differing blocks that were kept differ in one byte."""
        return sum(int(np.count_nonzero(change[:, 3] == 1)) for change in self.changes)

    @property
    def worse(self) -> int:
        """How many of them are worse than the reference's."""
        return int(np.count_nonzero(self.ratios() > 1))

    def is_like_damage(self) -> bool:
        return like_damage(self.differing, self.single_bytes, self.worse)

    def errors(self) -> dict[str, float | int | None]:
        """Root mean square error of the file and of the reference, the worst block, and the signal-to-noise ratio."""
        n = max(1, self.weights)
        noise = self.square / self.error if self.error else None
        return {
            "rms": (self.error / n) ** 0.5,
            "reference_rms": (self.reference_error / n) ** 0.5,
            "signal_to_noise_db": None if noise is None or not noise else round(10 * float(np.log10(noise)), 3),
            "worst_block": self.worst[1] if self.worst[1] >= 0 else None,
            "worst_block_rms": (self.worst[0] / self.kind.block_size) ** 0.5,
        }


def without_padding(kind: TensorType, blocks: np.ndarray) -> np.ndarray:
    """The HIFI fork leaves padding as memory had it; the encoders here set it to 0, and decoders never read it."""
    layout = FORMATS[kind.name].layout
    if "pad" not in layout.names:
        return blocks
    blocks = blocks.copy()
    blocks[..., layout.span("pad")] = 0
    return blocks


def describe(kind: TensorType, block: int, observed: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """The first byte in which a block differs: which field it belongs to, and both values."""
    layout = FORMATS[kind.name].layout
    byte = int(np.flatnonzero(observed != expected)[0])
    field = layout.field_at(byte)
    size = field.size // field.count
    item = (byte - layout.offset(field.name)) // size
    at = layout.offset(field.name) + item * size
    return {
        "block": block,
        "field": field.name,
        "item": item if field.count > 1 else None,
        "byte": at,
        "observed": _number(observed[at : at + size], field.dtype),
        "expected": _number(expected[at : at + size], field.dtype),
    }


def _number(raw: np.ndarray, dtype: str) -> float | int | str:
    kind = {"u8": "u1", "i8": "i1", "u16": "<u2", "i16": "<i2", "f16": "<f2", "f32": "<f4"}[dtype]
    value = raw.tobytes()
    number = np.frombuffer(value, kind)[0]
    if dtype.startswith("f"):
        return float(number) if np.isfinite(number) else str(number)
    return int(number)


def _values(kind: TensorType, blocks: np.ndarray) -> np.ndarray:
    """uint8[n, type_size] -> f32[n, block_size]."""
    return decode(kind.name, blocks)


def _squares(values: np.ndarray) -> np.ndarray:
    """f32[n, block_size] -> f64[n]: the sum of squares of each block."""
    return np.einsum("ij,ij->i", values, values, dtype=np.float64, casting="unsafe")
