"""A model in several files (split.count > 1): which part a file is, and the tensors of all parts together."""

from __future__ import annotations

from collections.abc import Sequence

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_model import Gguf, Tensor

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def gather(ggufs: Sequence[Gguf], report: Report) -> tuple[Gguf, dict[str, Tensor]] | None:
    """The first shard, whose metadata count, and every shard's tensors; None where the set is not whole.

    Raises InputError where several files are given that are no shards of one model.
    """
    counts = [Metadata(gguf, report, "L001").scalar(COUNT, "u16") for gguf in ggufs]
    if report.problems:
        return None
    if (counts[0] or 0) <= 1 and len(ggufs) == 1:
        return ggufs[0], {tensor.name: tensor for tensor in ggufs[0].tensors}
    if any((count or 0) <= 1 for count in counts):
        raise InputError(f"{len(ggufs)} files were given for one model, and {COUNT} of one says that it stands alone")
    numbers = [Metadata(gguf, report, "L001").scalar(NUMBER, "u16", required=True) for gguf in ggufs]
    if report.problems:
        return None
    total = counts[numbers.index(0)] if 0 in numbers else counts[0]
    if sorted(numbers) != list(range(total)):
        given = ", ".join(str(n + 1) for n in sorted(numbers))
        report.doubt(COUNT, f"{COUNT}: shard {given} of {total} is given, and a model is judged by all of its shards")
        return None
    ordered = [gguf for _, gguf in sorted(zip(numbers, ggufs, strict=True), key=lambda pair: pair[0])]
    tensors = _union(ordered, report)
    stated = Metadata(ordered[0], report, "L001").scalar(TENSORS, "i32", required=True)
    if stated is not None and stated != len(tensors):
        report.problem("L001", TENSORS, f"{TENSORS} is {stated}, and the {total} shards hold {len(tensors)} tensors")
    return ordered[0], tensors


def _union(ordered: Sequence[Gguf], report: Report) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, gguf in enumerate(ordered):
        for tensor in gguf.tensors:
            if tensor.name in tensors:
                report.problem(
                    "L001", tensor.name, f"tensor {tensor.name} is in shard {number + 1} and in an earlier one"
                )
            tensors[tensor.name] = tensor
    return tensors
