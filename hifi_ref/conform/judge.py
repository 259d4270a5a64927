"""The outcome of each case, and of each cell: one format, one operation.

Decoders and encoders are judged by bits. So are dot products, against the order of additions of the generic kernel;
where bits differ, hifi_ref.dot_exact's proven bound on every order decides.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from hifi_ref import api
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.conform.line_target import NoAnswerError, NotOfferedError
from hifi_ref.dot_bound import DotBound, dot_exact
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Layout

EXACT = "exact"  # the expected bits; any NaN for a NaN
BOUND = "within bound"  # a dot product in another order of additions
OPEN = "open"  # other bits where C leaves them open, or as good ones where builds with fused multiply-adds differ
UNBOUNDED = "no bound"  # a dot product with other bits, and nothing proven about it
DIFFERS = "differs"
NO_ANSWER = "no answer"
FAILED = (DIFFERS, NO_ANSWER)
# An encoder that chooses otherwise has at most so many times the reference's squared error.
MORE_ERROR = 1.01
# A target that hangs, dies or answers rubbish this often in one cell is not asked further there.
PATIENCE = 5


class Target(Protocol):
    """Who is asked: LineTarget, or anything else with its ask."""

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Verdict:
    """One case's outcome. observed: what came, of expected's type; None where nothing did. detail: why, in words."""

    case: Case
    outcome: str
    observed: np.ndarray | None = None
    detail: str = ""

    @property
    def answer(self) -> np.ndarray:
        """What came, where something did, as in every outcome but NO_ANSWER."""
        assert self.observed is not None
        return self.observed


@dataclass
class Cell:
    """One operation of one format: all its verdicts.

    not_asked: cases left out after too many without an answer; declined: cases that the target does not offer, such as
    encoding with importance.
    """

    suite: Suite
    verdicts: list[Verdict] = field(default_factory=list)
    not_asked: int = 0
    declined: int = 0

    @property
    def offered(self) -> bool:
        return bool(self.verdicts)

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def counts(self) -> Counter[str]:
        return Counter(verdict.outcome for verdict in self.verdicts)

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.outcome in FAILED]


def judge(
    target: Target, suites: Iterable[Suite], progress: Callable[[int], object] = lambda suites: None
) -> list[Cell]:
    """Ask every case of every suite. ``progress`` is called with the number of suites whenever some are done."""
    cells = []
    for suite in suites:
        cells.append(judge_suite(target, suite))
        progress(1)
    return cells


def judge_suite(target: Target, suite: Suite) -> Cell:
    """Ask every case of one suite."""
    cell, patience = Cell(suite), PATIENCE
    for i, case in enumerate(suite.cases):
        try:
            answer = target.ask(suite.operation, suite.layout.name, case.given, case.context)
        except NotOfferedError:
            cell.declined += 1
            continue
        except NoAnswerError as error:
            cell.verdicts.append(Verdict(case, NO_ANSWER, detail=str(error)))
            patience -= error.ended
            if not patience:
                cell.not_asked = len(suite.cases) - i - 1
                break
            continue
        cell.verdicts.append(compare(suite, case, answer))
    return cell


def compare(suite: Suite, case: Case, answer: np.ndarray) -> Verdict:
    """One answer, uint8[n], against what is expected."""
    expected = case.expected
    if answer.size != expected.nbytes:
        return Verdict(case, NO_ANSWER, detail=f"answered {answer.size} bytes, not {expected.nbytes}")
    observed = answer if expected.dtype == np.uint8 else np.ascontiguousarray(answer).view("<f4").astype(np.float32)
    if agreement(suite, observed, expected).all():
        return Verdict(case, EXACT, observed)
    if suite.operation == "dot":
        return _by_bound(suite, case, observed)
    # Another profile chooses other blocks, not worse ones.
    other_choice = case.result == "profile-dependent" and as_close(suite.layout, case, observed)
    return Verdict(case, OPEN if other_choice or case.result == "undefined-in-c" else DIFFERS, observed)


def as_close(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """Whether encoded blocks decode to weights about as close to the given ones as the expected blocks do."""
    if layout.name not in FORMATS:
        return False
    x, importance = case.array("weights").astype(np.float64), case.given["importance"]
    weight = 1 if importance is None else importance
    with np.errstate(all="ignore"):
        right, got = (
            float((np.square(api.decode(layout.name, raw, lane="numpy") - x) * weight).sum())
            for raw in (case.expected, observed)
        )
    return got <= right * MORE_ERROR


def agreement(suite: Suite, observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two answers agree; a NaN is as good as another, also as the scale of a block."""
    if suite.operation != "encode":
        return same(observed, expected)
    return (observed == expected) | (_nan_bytes(suite.layout, observed) & _nan_bytes(suite.layout, expected))


def _nan_bytes(layout: Layout, raw: np.ndarray) -> np.ndarray:
    """bool[bytes]: those of a binary16 or binary32 field that is NaN."""
    blocks = raw.reshape(-1, layout.type_size)
    found = np.zeros(blocks.shape, bool)
    for part in layout.fields:
        if part.dtype in ("f16", "f32"):
            at, size = layout.offset(part.name), part.size // part.count
            numbers = np.ascontiguousarray(blocks[:, at : at + part.size]).view(f"<f{size}")
            found[:, at : at + part.size] = np.repeat(np.isnan(numbers), size, axis=1)
    return found.reshape(-1)


def same(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where bits agree; one NaN is as good as another."""
    if observed.dtype == np.uint8:
        return observed == expected
    return (observed.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(observed) & np.isnan(expected))


class Bounded(NamedTuple):
    """|observed - true value|, and the largest that a sound kernel can have."""

    error: float
    bound: float


def bound_of(name: str, case: Case, observed: np.ndarray) -> Bounded | None:
    """None where nothing is proven: values that are not finite, contradicting sums, or a format not known here.

    Nor where the reference itself is outside, as some HIFI formats are, which do not multiply the weights they decode.
    """
    found = _exact(name, case)
    if found is None or not np.isfinite(found.bound[0]) or not found.holds(case.expected).all():
        return None
    return Bounded(float(found.error(observed)[0]), float(found.bound[0]))


@functools.lru_cache(maxsize=1024)
def _exact(name: str, case: Case) -> DotBound | None:
    try:
        return dot_exact(name, case.array("w")[None], case.array("a"))
    except (ValueError, NotImplementedError):
        return None


def _by_bound(suite: Suite, case: Case, observed: np.ndarray) -> Verdict:
    bounded = bound_of(suite.layout.name, case, observed)
    if case.result == "undefined-in-c":
        return Verdict(case, OPEN, observed)
    if bounded is None:
        # Other orders meet infinities elsewhere, and other kernels read stored sums elsewhere.
        return Verdict(case, UNBOUNDED, observed)
    if bounded.error <= bounded.bound:
        return Verdict(case, BOUND, observed)
    return Verdict(case, DIFFERS, observed, f"off by {bounded.error:.3g} where the proven bound is {bounded.bound:.3g}")
