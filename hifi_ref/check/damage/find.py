"""The two calls: look at each tensor as it is read, and conclude when all were."""

from __future__ import annotations

from dataclasses import dataclass, field

from hifi_ref.check.damage.pages import Twice, lost, twice
from hifi_ref.check.damage.scales import OCTAVES, Odd, odd_scales, odd_weights
from hifi_ref.check.damage.survey import Run, Survey, of_hole, survey
from hifi_ref.check.damage.tensors import copies, must_not_be_zero
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, note


@dataclass
class Damage:
    """Findings about damage in one file, from what its tensors' bytes have in common with pages."""

    gguf: Gguf
    findings: Findings
    surveys: list[Survey] = field(default_factory=list)
    weightless: list[Tensor] = field(default_factory=list)

    def look(self, tensor: Tensor, hole: bool = False) -> None:
        """Look at a readable tensor: once at all its bytes, and again at its scales; at neither where it is a hole."""
        if not tensor.nbytes:
            return
        if hole:
            self.surveys.append(of_hole(tensor))
            self.weightless.append(tensor)
            return
        found = survey(self.gguf, tensor)
        self.surveys.append(found)
        odd, no_scale = odd_scales(self.gguf, tensor)
        for entry in odd + odd_weights(self.gguf, tensor):
            _note_odd(self.findings, tensor, entry)
        if found.zero or no_scale:
            self.weightless.append(tensor)

    def conclude(self) -> None:
        """Add what only all tensors together tell."""
        surveys = sorted(self.surveys, key=lambda s: s.tensor.start)
        if all(s.zero for s in surveys):
            # Only files that say what model they are: samples of a format may well hold zeros.
            if surveys and "general.architecture" in self.gguf.metadata:
                start, stop = surveys[0].tensor.start, surveys[-1].stop
                message = f"bytes {start} to {stop}, the data of all {len(surveys)} tensors, are zero"
                self.findings.add(Finding("P008", message, offset=start, count=len(surveys)))
            return
        for tensor in self.weightless:
            code = must_not_be_zero(tensor.name)
            if code is not None:
                message = f"bytes {tensor.start} to {tensor.start + tensor.known_nbytes}: every weight is zero"
                note(self.findings, tensor, code, message, offset=tensor.start)
        for found, runs in lost(self.gguf, surveys):
            _note_lost(self.findings, found, runs)
        for entry in twice(self.gguf, surveys):
            _note_twice(self.findings, entry)
        for one, other in copies(self.gguf, surveys):
            tensor = other.tensor
            message = (
                f"bytes {tensor.start} to {other.stop} are those of tensor {one.tensor.name}, from {one.tensor.start}"
            )
            note(self.findings, tensor, "P016", message, offset=tensor.start)


def _place(found: Survey, start: int, stop: int) -> str:
    """Bytes of the file, and what they are of the tensor."""
    kind = found.tensor.known_type
    first = (start - found.tensor.start) // kind.type_size
    last = (stop - 1 - found.tensor.start) // kind.type_size
    return f"bytes {start} to {stop} ({'weights' if kind.block_size == 1 else 'blocks'} {first} to {last})"


def _note_lost(findings: Findings, found: Survey, runs: list[Run]) -> None:
    run = runs[0]
    value = "zero" if run.word == 0 else f"the bytes {run.word.to_bytes(8, 'little').hex()} again and again"
    others = f" (the first of {len(runs)} such places)" if len(runs) > 1 else ""
    message = f"{_place(found, run.start, run.stop)} are {value}, as pages are that were never written{others}"
    block = (run.start - found.tensor.start) // found.tensor.known_type.type_size
    note(findings, found.tensor, "P009", message, block=block, offset=run.start, count=len(runs))


def _note_twice(findings: Findings, entry: Twice) -> None:
    where = "" if entry.one is entry.other else f" of tensor {entry.one.tensor.name}"
    stop = entry.again + entry.length
    message = (
        f"{_place(entry.other, entry.again, stop)} are bytes {entry.start} to {entry.start + entry.length}{where} "
    )
    message += "once more, page by page"
    block = (entry.again - entry.other.tensor.start) // entry.other.tensor.known_type.type_size
    note(findings, entry.other.tensor, "P010", message, block=block, offset=entry.again)


def _note_odd(findings: Findings, tensor: Tensor, odd: Odd) -> None:
    kind = tensor.known_type
    unit = "weight" if odd.field == "weight" else "block"
    offset = tensor.start + odd.first * kind.type_size
    stop = offset + kind.type_size
    place = f"weight {odd.first}" if unit == "weight" else f"field {odd.field} of block {odd.first}"
    code, what = {
        "huge": ("P011", "larger than any model's"),
        "far": ("P012", f"more than {2**OCTAVES} times nearly all others"),
        "sign": ("P013", f"negative, and not so in {odd.total - odd.number} other blocks"),
    }[odd.what]
    others = f" (the first of {odd.number} such {unit}s)" if odd.number > 1 else ""
    message = f"{place}, in bytes {offset} to {stop}, is {odd.value:.4g}, {what}{others}"
    note(findings, tensor, code, message, field=odd.field, block=odd.first, offset=offset, count=odd.number)
