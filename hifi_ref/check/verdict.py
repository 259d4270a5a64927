"""What a comparison says: its findings, each with a sentence, and the verdict on the whole file in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hifi_ref.check.comparison import DIFFERS, NOT_JUDGED, OTHERWISE, REPRODUCED, Comparison, TensorResult
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, note

_CODES = {
    "source": "E001", "profile": "E002", "encoder": "E003", "importance": "E004", "order": "E005", "absent": "E006",
    "shape": "E008", "damage": "E010", "rounding": "E011",
}  # fmt: skip


def add_findings(gguf: Gguf, comparison: Comparison, findings: Findings) -> None:
    """Add what a comparison found of each tensor, and of those that the file lacks."""
    tensors = {tensor.name: tensor for tensor in gguf.tensors}
    for result in comparison.results:
        tensor = tensors[result.name]
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
    for name in comparison.missing:
        findings.add(Finding("E007", f"tensor {name} of the source is not in the file", tensor=name))


def difference_sentence(result: TensorResult) -> str:
    """How much differs, and the first of it by block and field."""
    first, errors = result.first_difference, result.errors
    item = first["field"] if first["item"] is None else f"{first['field']}[{first['item']}]"
    n, total = result.blocks_differing, result.blocks_judged
    share = f"{n} of {total} blocks differ" if n > 1 else f"1 block of {total} differs"
    sentence = f"{share}, first block {first['block']} in {item}: {_show(first['observed'])}, the reference writes "
    sentence += _show(first["expected"])
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


def verdict(path: str, comparison: Comparison, gguf: Gguf) -> str:
    """One sentence that a publisher can paste."""
    results, options = comparison.results, comparison.options
    good = [r for r in results if r.outcome == REPRODUCED]
    tensors = {t.name: t for t in gguf.tensors}
    weights = sum(r.blocks_judged * tensors[r.name].known_type.block_size for r in results)
    with_importance = f" with the importance matrix {Path(options.imatrix).name}" if options.imatrix else ""
    of = f"{Path(options.source).name}{with_importance}"
    sampled = ", in a sample of its blocks," if options.sample is not None else ""
    forks = {FORMATS[t.type_name].dialect for t in gguf.tensors if t.type_name in FORMATS} - {"llama.cpp"}
    reference = f"the reference encoder (llama.cpp v0.5.0, x86-64{', and the HIFI fork' if forks else ''})"
    if not results:
        return f"{Path(path).name}: no tensor was compared with {Path(options.source).name}."
    if len(good) == len(results):
        every = "every tensor" if options.tensors is None else f"each of {len(good)} chosen tensors"
        claim = f"{every}{sampled} is bit for bit what {reference} writes from {of}"
        return f"{Path(path).name}: {claim} ({len(good)} tensor{plural(len(good))}, {weights} weights)."
    parts = [f"{len(good)} of {len(results)} tensors{sampled} are bit for bit what {reference} writes from {of}"]
    for meaning, (of_one, of_several) in _MEANINGS.items():
        group = [r for r in results if (r.meaning or "").startswith(meaning) and r.outcome != REPRODUCED]
        if group:
            n = sum(r.blocks_differing for r in group)
            words = of_one if len(group) == 1 else of_several
            parts.append(f"{len(group)} {words}{f' in {n} block{plural(n)}' if meaning in _IN_BLOCKS else ''}")
    return f"{Path(path).name}: {'; '.join(parts)}."


def plural(n: int) -> str:
    return "" if n == 1 else "s"


_FUSED = "as a build with fused multiply-adds (arm64, for one) does,"
_ENCODER = "from another encoder, or from slightly other weights"
# What the verdict says of one tensor, and of several.
_MEANINGS = {
    "profile": (f"differs {_FUSED}", f"differ {_FUSED}"),
    "damage": ("was changed or damaged", "were changed or damaged"),
    "encoder": (f"comes {_ENCODER}", f"come {_ENCODER}"),
    "source": ("comes from other weights", "come from other weights"),
    "importance": ("needs or lacks the importance matrix", "need or lack the importance matrix"),
    "order": ("has its rows in another order", "have their rows in another order"),
    "rounded": ("was rounded to another float first", "were rounded to another float first"),
    "absent": ("is not in the source", "are not in the source"),
    "shape": ("has another shape in the source", "have another shape in the source"),
    "format": ("has a format without an encoder here", "have a format without an encoder here"),
    "not finite": ("has a source that is not finite", "have a source that is not finite"),
}
_IN_BLOCKS = ("profile", "damage")
