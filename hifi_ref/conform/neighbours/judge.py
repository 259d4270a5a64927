"""The outcome of each vector of a neighbouring system, and of each cell: one scheme, one operation.

What is expected are the system's own bits, faults included. Where a vector shows one, an answer without it is also
acceptable; where a vector was made of the faults of a fork, what is expected is what is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hifi_ref.conform.judge import ACCEPTABLE, BOUND, DIFFERS, EXACT, FAILED, NO_ANSWER, PATIENCE
from hifi_ref.conform.line_target import LineTarget, NoAnswerError, NotOfferedError
from hifi_ref.conform.neighbours.target import ask
from hifi_ref.conform.neighbours.vectors import Vector, VectorFile

Arrays = Mapping[str, np.ndarray]
# The arrays that hold bytes of E4M3
E4M3 = {"nvfp4": "scale", "mx.fp8_e4m3": "codes", "fp8.block": "codes", "fp8.tensor": "codes"}


@dataclass(frozen=True)
class Verdict:
    """observed: None without an answer. flag: of the fault that is shown, or shown not to be there."""

    vector: Vector
    outcome: str
    observed: Arrays | None = None
    detail: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Cell:
    """All verdicts of one file."""

    file: VectorFile
    verdicts: tuple[Verdict, ...]
    declined: int = 0
    not_asked: int = 0

    @property
    def counts(self) -> Counter[str]:
        return Counter(verdict.outcome for verdict in self.verdicts)

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.outcome in FAILED]

    def flags(self, outcome: str) -> dict[str, int]:
        """How many verdicts of this outcome have each flag."""
        return dict(sorted(Counter(v.flag for v in self.verdicts if v.outcome == outcome and v.flag).items()))


def judge_file(target: LineTarget, file: VectorFile) -> Cell:
    """Ask every vector of a file."""
    verdicts, declined, patience = [], 0, PATIENCE
    for i, vector in enumerate(file.vectors):
        try:
            verdicts.append(compare(file.scheme, vector, ask(target, file.operation, file.scheme, vector)))
        except NotOfferedError:
            declined += 1
        except NoAnswerError as error:
            verdicts.append(Verdict(vector, NO_ANSWER, detail=str(error)))
            patience -= error.ended
            if not patience:
                return Cell(file, tuple(verdicts), declined, len(file.vectors) - i - 1)
    return Cell(file, tuple(verdicts), declined)


def compare(scheme: str, vector: Vector, observed: Arrays) -> Verdict:
    """One answer against what is expected."""
    observed = one_nan(scheme, observed)
    vector = replace(
        vector, expected=one_nan(scheme, vector.expected),
        without={flag: one_nan(scheme, arrays) for flag, arrays in vector.without.items()},
    )  # fmt: skip
    for name, expected in vector.expected.items():
        if name not in observed:
            return Verdict(vector, NO_ANSWER, detail=f"answered {', '.join(observed) or 'nothing'}, and no {name}")
        if observed[name].size != expected.size:
            sizes = f"{observed[name].size} values of {name}, not {expected.size}"
            return Verdict(vector, NO_ANSWER, detail=f"answered {sizes}")
    if agrees(observed, vector.expected):
        return Verdict(vector, EXACT, observed, flag=next(iter(vector.without), ""))
    if vector.bound and within(observed, vector.expected, vector.bound):
        return Verdict(vector, BOUND, observed)
    for flag, arrays in vector.without.items():
        if agrees(observed, arrays):
            return Verdict(vector, ACCEPTABLE, observed, flag=flag)
    for flag, arrays in vector.faulty.items():
        if agrees(observed, arrays) or (vector.bound and within(observed, arrays, _about(arrays))):
            return Verdict(vector, DIFFERS, observed, flag=flag)
    return Verdict(vector, DIFFERS, observed)


def one_nan(scheme: str, arrays: Arrays) -> Arrays:
    """With 0x7F for both NaNs of E4M3: which of them 0 / 0 becomes is the processor's choice."""
    name = E4M3.get(scheme, "")
    if name not in arrays or arrays[name].dtype != np.uint8:
        return arrays
    return {**arrays, name: np.where(arrays[name] == 0xFF, np.uint8(0x7F), arrays[name])}


def agrees(observed: Arrays, expected: Arrays) -> bool:
    """Whether all expected arrays hold the observed values, bit for bit; NaN is as good as NaN."""
    return all(name in observed and not different(observed[name], array).any() for name, array in expected.items())


def within(observed: Arrays, expected: Arrays, bound: Arrays) -> bool:
    """Whether no value is farther off than its bound; NaN where NaN is expected."""
    for name, array in expected.items():
        got = observed[name].astype(np.float64).reshape(array.shape)
        near = np.abs(got - array) <= bound[name].reshape(array.shape)
        if not (near | (np.isnan(got) & np.isnan(array))).all():
            return False
    return True


def _about(arrays: Arrays) -> Arrays:
    """How near a faulty product is to be to another: a thousandth of the largest, as the fault may make them huge."""
    return {name: np.full(array.shape, np.nanmax(np.abs(array)) * 1e-3) for name, array in arrays.items()}


def different(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """bool[n]: where values differ. Of another dtype they must be the same numbers."""
    observed, expected = observed.reshape(-1), expected.reshape(-1)
    if observed.size != expected.size:
        return np.ones(expected.size, bool)
    if observed.dtype != expected.dtype or expected.dtype.kind not in "fV":
        wide = [v.astype(np.float64) if v.dtype.kind in "fV" else v for v in (observed, expected)]
        unequal = (wide[0] != wide[1]) & ~((wide[0] != wide[0]) & (wide[1] != wide[1]))
        negative = [np.signbit(v) if v.dtype.kind == "f" else v < 0 for v in wide]
        return unequal | (negative[0] != negative[1]) & (wide[0] == 0)
    as_bits = f"u{expected.dtype.itemsize}"
    nan = (observed != observed) & (expected != expected)
    return (observed.view(as_bits) != expected.view(as_bits)) & ~nan
