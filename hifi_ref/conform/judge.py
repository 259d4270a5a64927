"""The outcome of each case, and of each cell: one format, one operation.

Decoders and encoders are judged by bits. So are dot products, against the order of additions of the generic kernel;
where bits differ, hifi_ref.dot_exact's proven bound on every order decides. What differs then may still be one of the
harmless deviations that shipped implementations have.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from hifi_ref.conform.cases import Case, Suite
from hifi_ref.conform.deviations import FLAGS, deviation_of
from hifi_ref.conform.line_target import NoAnswerError, NotOfferedError
from hifi_ref.dot_bound import DotBound, dot_exact
from hifi_ref.formats.layout import Layout

EXACT = "exact"  # the expected bits; any NaN for a NaN
BOUND = "within bound"  # a dot product in another order of additions
OPEN = "open"  # other bits where C leaves them open
ACCEPTABLE = "acceptable"  # other bits that one of the deviations explains
UNBOUNDED = "no bound"  # a dot product with other bits, and nothing proven about it
DIFFERS = "differs"
NO_ANSWER = "no answer"
FAILED = (DIFFERS, NO_ANSWER)
# A target that hangs, dies or answers rubbish this often in one cell is not asked further there.
PATIENCE = 5


class Target(Protocol):
    """Who is asked: LineTarget, or anything else with its ask."""

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Verdict:
    """One case's outcome. observed: what came, of expected's type; None where nothing did. detail: why, in words.

    deviation: the flag of what explains other bits, accepted or not.
    """

    case: Case
    outcome: str
    observed: np.ndarray | None = None
    detail: str = ""
    deviation: str | None = None

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

    @property
    def deviations(self) -> Counter[str]:
        """How many answers are acceptable, by flag."""
        return Counter(v.deviation for v in self.verdicts if v.outcome == ACCEPTABLE and v.deviation)


def judge(
    target: Target,
    suites: Iterable[Suite],
    progress: Callable[[int], object] = lambda suites: None,
    accepted: Collection[str] = FLAGS,
) -> list[Cell]:
    """Ask every case of every suite. ``progress`` is called with the number of suites whenever some are done.

    ``accepted`` are the flags of the deviations that are no failures.
    """
    cells = []
    for suite in suites:
        cells.append(judge_suite(target, suite, accepted))
        progress(1)
    return cells


def judge_suite(target: Target, suite: Suite, accepted: Collection[str] = FLAGS) -> Cell:
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
        cell.verdicts.append(compare(suite, case, answer, accepted))
    return cell


def compare(suite: Suite, case: Case, answer: np.ndarray, accepted: Collection[str] = FLAGS) -> Verdict:
    """One answer, uint8[n], against what is expected."""
    expected = case.expected
    if answer.size != expected.nbytes:
        sizes = f"{answer.size} bytes, not {expected.nbytes}{_as_if(answer, expected)}"
        return Verdict(case, NO_ANSWER, detail=f"answered {sizes}")
    observed = answer if expected.dtype == np.uint8 else np.ascontiguousarray(answer).view("<f4").astype(np.float32)
    if agreement(suite, observed, expected).all():
        return Verdict(case, EXACT, observed)
    if case.result == "undefined-in-c":
        return Verdict(case, OPEN, observed)
    verdict = _by_bound(suite, case, observed) if suite.operation == "dot" else Verdict(case, DIFFERS, observed)
    flag = deviation_of(suite, case, observed) if verdict.outcome == DIFFERS else None
    return (
        verdict
        if flag is None
        else replace(verdict, deviation=flag, outcome=ACCEPTABLE if flag in accepted else DIFFERS)
    )


def _as_if(answer: np.ndarray, expected: np.ndarray) -> str:
    """Which other floats an answer of another size may hold."""
    if expected.dtype == np.uint8:
        return ""
    kinds = {expected.size * size: kind for size, kind in ((8, "binary64"), (2, "binary16"))}
    return f": as many as {kinds[answer.size]} has" if answer.size in kinds else ""


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
    """|observed - true value|, and the largest that a sound kernel can have: of the row that is worst in this."""

    error: float
    bound: float


def bound_of(name: str, case: Case, observed: np.ndarray) -> Bounded | None:
    """None where nothing is proven: values that are not finite, contradicting sums, or a format not known here.

    Nor where the reference itself is outside, as some HIFI formats are, which do not multiply the weights they decode.
    """
    found = _exact(name, case)
    if found is None or not np.isfinite(found.bound).all() or not found.holds(case.expected).all():
        return None
    errors = found.error(observed)
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors - found.bound)))
    return Bounded(float(errors[worst]), float(found.bound[worst]))


@functools.lru_cache(maxsize=1024)
def _exact(name: str, case: Case) -> DotBound | None:
    try:
        return dot_exact(name, case.array("w").reshape(case.rows, -1), case.array("a"))
    except (ValueError, NotImplementedError):
        return None


def _by_bound(suite: Suite, case: Case, observed: np.ndarray) -> Verdict:
    bounded = bound_of(suite.layout.name, case, observed)
    if bounded is None:
        # Other orders meet infinities elsewhere, and other kernels read stored sums elsewhere.
        return Verdict(case, UNBOUNDED, observed)
    if bounded.error <= bounded.bound:
        return Verdict(case, BOUND, observed)
    return Verdict(case, DIFFERS, observed, f"off by {bounded.error:.3g} where the proven bound is {bounded.bound:.3g}")
