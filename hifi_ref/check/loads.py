"""Would llama.cpp load the model: what hifi_ref.loading judges, as findings and in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.loading import judge
from hifi_ref.loading.report import LOADS, NO_MODEL, NOT_JUDGED, WILL_NOT_LOAD, Problem
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, printable


class Loading(NamedTuple):
    """``kind`` as hifi_ref.loading has it; ``sentence`` says what it rests on, why it was not judged, or what it is."""

    kind: str
    architecture: str | None
    sentence: str

    @property
    def line(self) -> str:
        """As it ends a report."""
        architecture = f", architecture {printable(self.architecture)}" if self.architecture else ""
        why = ", by the tables of llama.cpp v0.5.0" if self.kind == LOADS else f": {self.sentence}"
        return f"{self.kind}{architecture}{why}"


def judge_loading(ggufs: Sequence[Gguf], findings: Findings) -> Loading:
    """Judge a model of which these are all files, and add what keeps it from loading, or is worth knowing."""
    architecture = ggufs[0].text("general.architecture")
    tensors = {tensor.name: tensor for gguf in ggufs for tensor in gguf.tensors}
    why = _no_judgement(ggufs, list(tensors.values()), findings)
    if why is not None:
        return Loading(NOT_JUDGED, architecture, why)
    verdict = judge(ggufs)
    for part in (*verdict.problems, *verdict.notes):
        _add(part, tensors, findings)
    if verdict.kind in (NOT_JUDGED, NO_MODEL):
        code = "L010" if verdict.kind == NOT_JUDGED else "L012"
        sentence = next(note.sentence for note in verdict.notes if note.code == code)
        return Loading(verdict.kind, architecture, printable(sentence))
    if verdict.kind == WILL_NOT_LOAD:
        first, more = verdict.problems[0].sentence, len(verdict.problems) - 1
        return Loading(verdict.kind, architecture, f"{printable(first)}{f', and {more} more' if more else ''}")
    return Loading(verdict.kind, architecture, f"by {verdict.what_it_rests_on}")


def _no_judgement(ggufs: Sequence[Gguf], tensors: Sequence[Tensor], findings: Findings) -> str | None:
    """Why there is nothing to judge; None where there is."""
    broken = [c for c in (findings.counts + findings.ignored) if c[0] in "GSD" and CODES[c].severity == "error"]
    if broken:
        return f"only what is whole and sound is judged, not {CODES[min(broken)].title}"
    known = DIALECTS[REFERENCE].ids
    if any(known.get(tensor.type_id) != tensor.type for tensor in tensors):
        says = next(gguf.dialect for gguf in ggufs if gguf.dialect != REFERENCE)
        return f"the type ids are those of {DIALECTS[says].says}, and llama.cpp v0.5.0 does not read them"
    return None


def _add(part: Problem, tensors: dict[str, Tensor], findings: Findings) -> None:
    tensor = tensors.get(part.subject)
    finding = Finding(part.code, printable(part.sentence), None if tensor is None else tensor.name)
    if tensor is not None and part.code not in tensor.codes and not findings.ignores(finding):
        tensor.codes.append(part.code)
    findings.add(finding)
