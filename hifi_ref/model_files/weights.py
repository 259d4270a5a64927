"""The weights of one tensor of a source, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hifi_ref.model_files.files import InputError

# Rows of a tensor, numbered over all of its matrices.
Rows = np.ndarray | slice


class SourceError(InputError):
    """A source that cannot be used. The message names what and where."""


class NotKnown(SourceError):
    """Weights that nobody can tell from this source, of one tensor alone. The message says why."""


@dataclass
class Weights:
    """One tensor of the source: its name there, its shape with the row length first, its type's name.

    ``rows`` answers f32[rows, row length], exactly as the source has them, or as the converter makes them. ``stored``
    answers uint8[rows, row bytes], little-endian, where the converter changes no number; else it is None.
    ``doubt`` says what is not known of this tensor: then weights that are not the file's prove nothing.
    ``forget`` gives back memory that reading took.
    ``close`` is the relative error that numbers may have which the converter computes by functions of a library.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    rows: Callable[[Rows], np.ndarray]
    stored: Callable[[Rows], np.ndarray] | None = None
    doubt: str = ""
    close: float = 0.0
    forget: Callable[[], None] = lambda: None
