"""What is wrong with a cell of a neighbouring system: a known fault, another rule of its own, or a pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import neighbours as nb
from hifi_ref.conform.diagnose import Diagnosis
from hifi_ref.conform.judge import DIFFERS, EXACT
from hifi_ref.conform.neighbours.judge import Cell, Verdict, agrees, different


def diagnose(cell: Cell) -> Diagnosis | None:
    """The best explanation of the wrong answers; None where nothing explains half of them."""
    wrong = [verdict for verdict in cell.verdicts if verdict.outcome == DIFFERS]
    if not wrong:
        return None
    known = [d for d in (*_known_faults(cell, wrong), *_other_rules(cell, wrong)) if 2 * d.matches >= d.of]
    if known:
        return max(known, key=lambda d: d.matches)
    patterns = [Diagnosis(kind, None, says, sum(map(holds, wrong)), len(wrong)) for kind, says, holds in PATTERNS]
    found = [d for d in (*patterns, *_flags(cell, wrong)) if 2 * d.matches >= d.of]
    return max(found, key=lambda d: d.matches, default=None)


def _known_faults(cell: Cell, wrong: list[Verdict]) -> Iterator[Diagnosis]:
    for flag, note in cell.file.notes.items():
        matches = sum(verdict.flag == flag for verdict in wrong)
        if matches:
            yield Diagnosis(note["bug_type"], flag, note["description"].rstrip("."), matches, len(wrong))


def _other_rules(cell: Cell, wrong: list[Verdict]) -> Iterator[Diagnosis]:
    """A parameter that is taken for another of its values."""
    if cell.file.scheme not in nb.SCHEMES or cell.file.operation == "loss":
        return
    for name, parameter in nb.SCHEMES[cell.file.scheme].parameters.items():
        for value in parameter.choices:
            asked = [v for v in wrong if v.vector.parameters.get(name, parameter.default) != value]
            matches = sum(_is_answer(cell, verdict, {name: value}) for verdict in asked)
            if matches:
                says = f"The answers are those of {name}={value!r}"
                yield Diagnosis("another parameter", f"{name}={value}", says, matches, len(wrong))


def _is_answer(cell: Cell, verdict: Verdict, other: dict[str, object]) -> bool:
    """Whether the observed answer is hifi_ref's own with that parameter."""
    given, parameters = dict(verdict.vector.given), {**verdict.vector.parameters, **other}
    assert verdict.observed is not None
    try:
        if cell.file.operation == "encode":
            answer = nb.encode(cell.file.scheme, given.pop("x"), **given, **parameters)
        elif cell.file.operation == "decode":
            answer = {"y": nb.decode(cell.file.scheme, given, verdict.vector.shape, **parameters)}
        else:
            answer = {"z": nb.matmul(cell.file.scheme, given, given.pop("a"), **parameters)}
    except (ValueError, NotImplementedError):
        return False
    if not verdict.vector.expected.keys() <= answer.keys():
        return False
    return agrees(verdict.observed, {name: np.asarray(answer[name]) for name in verdict.vector.expected})


def _arrays(verdict: Verdict) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Observed and expected, of each array that differs."""
    assert verdict.observed is not None
    for name, expected in verdict.vector.expected.items():
        observed = verdict.observed[name].reshape(-1)
        if different(observed, expected).any():
            yield observed, expected.reshape(-1)


def _nibbles_exchanged(verdict: Verdict) -> bool:
    return all(e.dtype == o.dtype == np.uint8 and np.array_equal(o, e << 4 | e >> 4) for o, e in _arrays(verdict))


def _sign_of_zero(verdict: Verdict) -> bool:
    return all(e.dtype.kind == "f" and np.array_equal(o, e, equal_nan=True) for o, e in _arrays(verdict))


def _one_step(verdict: Verdict) -> bool:
    """Codes a byte or a whole number each."""
    return all(
        e.dtype.kind in "iu" and np.abs(o.astype(np.int64) - e.astype(np.int64)).max() <= 1 for o, e in _arrays(verdict)
    )


def _last_place(verdict: Verdict) -> bool:
    return all(
        e.dtype == o.dtype == np.float32
        and np.abs(o.view(np.int32).astype(np.int64) - e.view(np.int32).astype(np.int64)).max() <= 2
        for o, e in _arrays(verdict)
    )


def _subnormals_flushed(verdict: Verdict) -> bool:
    def flushed(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)

    return all(e.dtype == o.dtype == np.float32 and np.array_equal(o, flushed(e)) for o, e in _arrays(verdict))


PATTERNS: tuple[tuple[str, str, Callable[[Verdict], bool]], ...] = (
    ("nibble order", "The nibbles of each byte are exchanged", _nibbles_exchanged),
    ("flush to zero", "Subnormal numbers are flushed to zero", _subnormals_flushed),
    ("sign of zero", "Only the sign of zeros differs", _sign_of_zero),
    ("rounding", "Codes differ by one, as another rounding of ties or another order of operations gives", _one_step),
    ("rounding", "Numbers differ by a unit or two in the last place", _last_place),
)


def _flags(cell: Cell, wrong: list[Verdict]) -> Iterator[Diagnosis]:
    """Flags that all failing vectors have, and no passing one."""
    right = [verdict.vector for verdict in cell.verdicts if verdict.outcome == EXACT]
    for flag, note in cell.file.notes.items() if right else ():
        if all(flag in v.vector.flags for v in wrong) and not any(flag in vector.flags for vector in right):
            says = f"Only vectors flagged {flag} fail. {note['description'].rstrip('.')}"
            yield Diagnosis(flag, None, says, len(wrong), len(wrong))
