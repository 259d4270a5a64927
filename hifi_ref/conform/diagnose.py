"""What is wrong with a cell: a bug whose answers are the observed ones, or a pattern in how they differ.

Tried in this order: a known bug that gives every wrong answer; right blocks whose parts an encoder writes to a wrong
place (rewritten.py); a bug that gives every answer of the cell, right and wrong (reproduce.py); a known bug that gives
most wrong answers; a general pattern, or a property of the vectors.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import NamedTuple

import numpy as np

from hifi_ref.conform import encoded_facts
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.conform.judge import BOUND, DIFFERS, EXACT, NO_ANSWER, Cell, Verdict, same
from hifi_ref.conform.patterns import PATTERNS, fields_say
from hifi_ref.conform.reproduce import agrees, alike, named, one_way, reproduced
from hifi_ref.conform.rewritten import rewritten
from hifi_ref.conform.solved_numbers import by_values
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.known_bugs import Bug, bugs_of

# The detail of an error that may mean no.
REFUSED = re.compile(r"refused: (?!'returned)")


# Kinds of bugs that change a last bit
LAST_BITS = (
    "reciprocal", "inverse", "rounding", "half precision", "truncated arithmetic", "fused multiply-add",
    "order of additions", "order of products", "f16 conversion",
)  # fmt: skip
# Patterns that say less than which code is taken for what
VAGUE = re.compile("field |left out|order of elements|last bit")


class Diagnosis(NamedTuple):
    """kind: the class of bug. bug: the known bug's name, or None for a pattern. matches: of so many failing vectors."""

    kind: str
    bug: str | None
    says: str
    matches: int
    of: int

    def __str__(self) -> str:
        return f"{self.says} ({self.bug or self.kind}: matches {self.matches} of {self.of} failing vectors)"


def diagnose(cell: Cell) -> Diagnosis | None:
    """The best explanation of a cell's wrong answers; None where nothing explains half of them.

    The variants of one library often err alike: what was found for the same answers is found again.
    """
    answers = [(v.outcome, v.detail if v.observed is None else v.observed.tobytes()) for v in cell.verdicts]
    key = cell.suite, hashlib.sha256(repr(answers).encode()).digest()
    if key not in _found:
        _found[key] = _diagnose(cell)
    return _found[key]


_found: dict[tuple[Suite, bytes], Diagnosis | None] = {}


def _diagnose(cell: Cell) -> Diagnosis | None:
    wrong = [verdict for verdict in cell.verdicts if verdict.outcome == DIFFERS]
    if not wrong:
        return _not_offered(cell)
    known = _known_bug(cell, wrong)
    if known is not None and known.matches == known.of:
        return known
    if (moved := _rewritten(cell, wrong)) is not None:
        return moved
    found = reproduced(cell, wrong)
    if found is not None:
        name = found.bug.name if isinstance(found.bug, Bug) else None
        # Another way of encoding may have no vector that shows it
        seen = "seen in" if found.where.startswith("encoding") else "in"
        says = f"{found.bug.says.rstrip('.')}{f', {seen} {found.where} alone' if found.where else ''}."
        if cell.suite.operation == "encode" and len(wrong) == 1 and found.bug.kind in LAST_BITS:
            says += " A single vector fails: what else changes a last bit there would do the same."
        says = " Or: ".join(dict.fromkeys([says, *(bug.says for bug in found.others)]))
        return Diagnosis(found.bug.kind, name, says, len(wrong), len(wrong))
    # A bug by name tells more than a pattern does.
    if known is not None and 2 * known.matches >= known.of:
        return known
    values = _values(cell, wrong)
    found_so = _faint(cell, wrong), _pattern(cell, wrong, values is None), values, _flag(cell, wrong)
    general = [d for d in found_so if d is not None and 2 * d.matches >= d.of]
    best = max(general, key=lambda d: d.matches, default=None)
    if cell.suite.operation != "encode":
        return best
    facts = encoded_facts.facts(cell, wrong)
    if best is None:
        return Diagnosis("what differs", None, facts, len(wrong), len(wrong)) if facts else None
    return best._replace(says=f"{best.says} {facts}".rstrip())


def _rewritten(cell: Cell, wrong: list[Verdict]) -> Diagnosis | None:
    """Right blocks whose parts stand in a wrong place, everywhere or in one way of encoding."""
    if cell.suite.operation != "encode":
        return None
    right = [v for v in cell.verdicts if v.outcome == EXACT]
    only = one_way(wrong, right)
    says = rewritten(cell.suite, [*wrong, *right])
    if not says and only:
        says = rewritten(cell.suite, [*wrong, *(v for v in right if alike(v, wrong[0]))])
        says = says and f"{says.rstrip('.')}, in {only} alone."
    return Diagnosis("packing", None, says, len(wrong), len(wrong)) if says else None


def _not_offered(cell: Cell) -> Diagnosis | None:
    """Every question was refused."""
    n = len(cell.verdicts)
    if not n or not all(v.outcome == NO_ANSWER and REFUSED.match(v.detail) for v in cell.verdicts):
        return None
    says = "Refuses all that was asked. If it is not offered, the answer is `no`; a module raises NotImplementedError."
    return Diagnosis("not offered", None, says, n, n)


def _known_bug(cell: Cell, wrong: list[Verdict]) -> Diagnosis | None:
    best: tuple[int, int, Bug] | None = None
    right = [v for v in cell.verdicts if v.outcome == EXACT]
    for bug in bugs_of(cell.suite.layout.name, cell.suite.operation):
        answers = bug_answers(bug, cell.suite)
        matches = sum(agrees(cell.suite, v, answers[v.case.id]) for v in wrong)
        # A bug that spoils more of what the target has right than it explains is not the target's.
        spoilt = sum(not _equal(answers[v.case.id], v.answer) for v in right)
        if matches > spoilt and (best is None or (matches, -spoilt) > best[:2]):
            best = matches, -spoilt, bug
    return None if best is None else Diagnosis(best[2].kind, best[2].name, best[2].says, best[0], len(wrong))


def _equal(answer: np.ndarray, observed: np.ndarray) -> bool:
    return answer.size == observed.size and bool(same(answer, observed).all())


@functools.lru_cache(maxsize=256)
def bug_answers(bug: Bug, suite: Suite) -> dict[str, np.ndarray]:
    """What a known bug answers to every case of a suite: id -> f32 or u8, of one axis."""
    with np.errstate(all="ignore"):
        if suite.operation == "decode" and bug.spans:
            return {case.id: _decoded(bug, (case,), suite.layout.type_size)[case.id] for case in suite.cases}
        if suite.operation == "decode":
            return _decoded(bug, suite.cases, suite.layout.type_size)
        groups = [[case] for case in suite.cases] if bug.spans else _alike(suite)
        return {id: answer for cases in groups for id, answer in _answers(bug, cases).items()}


def _decoded(bug: Bug, cases: tuple[Case, ...], type_size: int) -> dict[str, np.ndarray]:
    blocks = [case.array("blocks").reshape(-1, type_size) for case in cases]
    values = np.asarray(bug.run(np.concatenate(blocks)), np.float32).reshape(-1, FORMATS[bug.format].block_size)
    parts = np.split(values, np.cumsum([len(b) for b in blocks])[:-1])
    return {case.id: part.reshape(-1) for case, part in zip(cases, parts, strict=True)}


@functools.lru_cache(maxsize=16)
def _alike(suite: Suite) -> list[list[Case]]:
    """Cases that one call can answer, a row each: as long, with the same importance or the same activations."""
    found: dict[tuple[int, int, bytes | None], list[Case]] = {}
    for case in suite.cases:
        first, second = case.given.values()
        assert first is not None
        found.setdefault((first.size, case.rows, None if second is None else second.tobytes()), []).append(case)
    return list(found.values())


def _answers(bug: Bug, cases: list[Case]) -> dict[str, np.ndarray]:
    """Nothing where the bug makes of the input what the reference refuses, such as an infinity."""
    firsts, (_, second) = [[*case.given.values()][0] for case in cases], cases[0].given.values()
    try:
        rows = np.stack([first for first in firsts if first is not None]).reshape(len(cases) * cases[0].rows, -1)
        found = np.asarray(bug.run(rows, None if second is None else second.copy())).reshape(len(cases), -1)
        return {case.id: row for case, row in zip(cases, found, strict=True)}
    except ValueError:
        if len(cases) == 1:
            return {cases[0].id: np.empty(0, cases[0].expected.dtype)}
        return {id: answer for case in cases for id, answer in _answers(bug, [case]).items()}


def _pattern(cell: Cell, wrong: list[Verdict], vague: bool) -> Diagnosis | None:
    """vague: patterns that say less than which code is taken for what are tried as well."""
    counted: dict[str, Diagnosis] = {}
    for pattern in PATTERNS:
        if pattern.kind == "another choice" and 4 * len(wrong) > len(cell.verdicts):
            # A search that rounds otherwise agrees on most vectors
            continue
        if not vague and VAGUE.match(pattern.kind):
            continue
        if cell.suite.operation in pattern.operations:
            matches = sum(bool(pattern.holds(cell.suite.layout, v.case, v.answer)) for v in wrong)
            if matches:
                counted.setdefault(pattern.kind, Diagnosis(pattern.kind, None, pattern.says, matches, len(wrong)))
    if not counted:
        return None
    most = max(found.matches for found in counted.values())
    best, *others = (found for found in counted.values() if found.matches == most)
    if best.kind.startswith("field "):
        fields = [found.kind.removeprefix("field ") for found in (best, *others) if found.kind.startswith("field ")]
        return best._replace(says=fields_say(fields))
    return best


def _faint(cell: Cell, wrong: list[Verdict]) -> Diagnosis | None:
    """Only rows below some magnitude are encoded wrongly."""
    if cell.suite.operation != "encode":
        return None
    most = max(float(abs(v.case.array("weights")).max()) for v in wrong)
    sizes = [float(abs(v.case.array("weights")).max()) for v in cell.verdicts if v.outcome == EXACT]
    above = [size for size in sizes if size]
    if not above or not 0 < most < min(above):
        return None
    says = (
        f"Only faint weights fail, of magnitudes up to {most:.3g}; from {min(above):.3g} on all are right. Look at the "
        "guard against dividing by next to nothing, and at subnormal numbers."
    )
    return Diagnosis("faint weights", None, says, len(wrong), len(wrong))


def _values(cell: Cell, wrong: list[Verdict]) -> Diagnosis | None:
    """Numbers of a decoder that are taken for other values."""
    layout = cell.suite.layout
    known = layout.name in LLAMA_CPP and LLAMA_CPP[layout.name].layout.fields == layout.fields
    solved = by_values(cell, wrong) if cell.suite.operation == "decode" and known else None
    if solved is None:
        return None
    where = "" if solved.positions is None else f", in {named(cell.suite, solved.positions)} alone"
    return Diagnosis(solved.kind, None, f"{solved.says}{where}.", len(wrong), len(wrong))


def _flag(cell: Cell, wrong: list[Verdict]) -> Diagnosis | None:
    """A flag that all failing cases have and no passing one."""
    right = [v.case for v in cell.verdicts if v.outcome in (EXACT, BOUND)]
    if not right:
        return None
    for flag, note in cell.suite.notes.items():
        if all(flag in v.case.flags for v in wrong) and not any(flag in case.flags for case in right):
            return Diagnosis(flag, None, f"Only vectors flagged {flag} fail. {note}", len(wrong), len(wrong))
    return None
