"""What a comparison found: each difference as a finding, with a sentence that names the first of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifi_ref.check.comparison import DIFFERS, NOT_JUDGED, OTHERWISE, Comparison, TensorResult
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, note, printable

_CODES = {
    "source": "E001", "profile": "E002", "encoder": "E003", "importance": "E004", "order": "E005", "absent": "E006",
    "shape": "E008", "damage": "E010", "rounding": "E011",
}  # fmt: skip


def add_findings(gguf: Gguf, comparison: Comparison, findings: Findings, files: Mapping[str, str]) -> None:
    """Add what a comparison found of each tensor, of those that the file lacks, and of the importance matrix.

    ``files`` names the file of each tensor, where there are several.
    """
    found = Findings(ignores=findings.ignores)
    _add_all(gguf, comparison, found)
    findings.take(found, lambda finding: files.get(finding.tensor or ""))


def _add_all(gguf: Gguf, comparison: Comparison, findings: Findings) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.tensors}
    for result in comparison.results:
        _add_result(tensors[result.name], result, findings)
    for name in comparison.missing:
        findings.add(Finding("E007", f"tensor {printable(name)} of the source is not in the file", tensor=name))
    if comparison.coverage is not None and not comparison.coverage.matched:
        n = comparison.coverage.entries
        findings.add(Finding("E012", f"the importance matrix has {n} tensors, and the file none of them"))
    for name, why in comparison.misfits.items():
        note(findings, tensors[name], "E013", why)


def _add_result(tensor: Tensor, result: TensorResult, findings: Findings) -> None:
    if result.outcome == NOT_JUDGED:
        code = _CODES[result.meaning] if result.meaning in ("absent", "shape") else "E009"
        note(findings, tensor, code, result.why, offset=tensor.start)
    elif result.outcome == OTHERWISE:
        for part in result.explained.split("+"):
            code = _CODES[part.split()[0].replace("rounded", "rounding")]
            note(findings, tensor, code, _way_sentence(part, result))
    elif result.outcome == DIFFERS:
        first = result.first_difference
        offset = tensor.start + first["block"] * tensor.known_type.type_size + first["byte"]
        note(
            findings, tensor, _CODES[result.explained], difference_sentence(result),
            field=first["field"], block=first["block"], offset=offset, count=result.blocks_differing,
        )  # fmt: skip
    if result.blocks_not_finite and result.outcome != NOT_JUDGED:
        n, of = result.blocks_not_finite, result.blocks_judged + result.blocks_not_finite
        note(findings, tensor, "E009", f"{n} of {of} blocks have a source that is not finite, and were not judged")


def difference_sentence(result: TensorResult) -> str:
    """How much differs, and the first of it by block and field."""
    first, errors = result.first_difference, result.errors
    item = first["field"] if first["item"] is None else f"{first['field']}[{first['item']}]"
    n, total = result.blocks_differing, result.blocks_judged
    share = f"{n} of {total} blocks differ" if n > 1 else f"1 block of {total} differs"
    rest = result.profile and result.explained != "profile"
    writer = result.profile if rest else "the reference"
    sentence = f"{share}, first block {first['block']} in {item}: {_show(first['observed'])}, {writer} writes "
    sentence += _show(first["expected"])
    if result.profile and not rest:
        sentence += f"; {'all of them are' if n > 1 else 'it is'} what {result.profile} writes"
    if errors["reference_rms"]:
        sentence += f"; error {errors['rms']:.4g}, {errors['rms'] / errors['reference_rms']:.5g} times the reference's"
    elif errors["rms"]:
        sentence += f"; error {errors['rms']:.4g}"
    return sentence


def _show(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _way_sentence(part: str, result: TensorResult) -> str:
    if part == "order":
        return "reproduced from the source's rows in another order, that of rotary halves and pairs exchanged"
    if part == "importance":
        return "reproduced without the importance matrix, which holds this tensor"
    return f"reproduced from the source's weights {part} first"
