"""The judgement of one model: its shards gathered, its metadata read, its tensors held against what they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hifi_ref.loading import attention, chat_template, doubts, hyper_parameters, other_files, shards, tensors, tokenizer
from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import LOADS, NO_MODEL, NOT_JUDGED, WILL_NOT_LOAD, Problem, Report, Verdict
from hifi_ref.loading.tables import FAMILIES, architectures
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.gguf_model import Gguf, Tensor
from hifi_ref.model_files.tensor_types import nbytes

RESTS_ON = (
    "the metadata and the tensors' shapes and types, held against tables of llama.cpp v0.5.0 for the CPU with its own "
    "parameters and a context of 512 tokens; weights, memory and other back ends were not looked at"
)


def judge(ggufs: Iterable[Gguf]) -> Verdict:
    """Whether the pinned release loads a model, all of whose files are given, opened and structurally sound.

    Raises InputError where several files are given that are no shards of one model.
    """
    given, report = list(ggufs), Report()
    if not given:
        raise ValueError("no file was given")
    gathered = shards.gather(given, report)
    if gathered is None:
        return _verdict(given[0], report)
    first, held = gathered
    what = other_files.description(first, report) if len(given) == 1 else None
    if what is not None:
        return _no_model(first, what, report)
    _judge(first, held, report)
    return _verdict(first, report)


def _verdict(gguf: Gguf, report: Report) -> Verdict:
    architecture = gguf.text("general.architecture")
    if report.problems:
        return Verdict(WILL_NOT_LOAD, architecture, tuple(report.problems), tuple(report.notes), RESTS_ON)
    kind = NOT_JUDGED if report.unknown else LOADS
    return Verdict(kind, architecture, (), (*report.unknown, *report.notes), RESTS_ON)


def _no_model(gguf: Gguf, what: str, report: Report) -> Verdict:
    metadata = Metadata(gguf, report)
    chat_template.check(metadata, report)
    if what == other_files.VOCABULARY:
        architecture = _architecture(metadata, report)
        if architecture is not None:
            tokenizer.check(Metadata(gguf, report, "L007"), architecture, report)
    notes = (Problem("L012", "general.type", f"this is {what}"), *report.notes, *report.unknown)
    return Verdict(NO_MODEL, gguf.text("general.architecture"), tuple(report.problems), notes, RESTS_ON)


def _judge(gguf: Gguf, held: Mapping[str, Tensor], report: Report) -> None:
    metadata = Metadata(gguf, report)
    chat_template.check(metadata, report)
    _check_types(gguf, held, report)
    metadata.scalar("general.file_type", "u32")
    architecture = _architecture(metadata, report)
    if architecture is None:
        return
    if architecture not in FAMILIES:
        key = "general.architecture"
        report.doubt(key, f"{key} is {architecture}, which llama.cpp knows and the tables here do not hold")
        return
    vocabulary = tokenizer.check(Metadata(gguf, report, "L007"), architecture, report)
    # Where the vocabulary is not understood, the other keys are still looked at.
    h = hyper_parameters.read(metadata, architecture, vocabulary or (1, 1), report)
    if h is None or vocabulary is None:
        return
    tensors.check(held, architecture, h, report)
    attention.check(held, architecture, h, report)
    doubts.check(gguf, architecture, h, report)


def _architecture(metadata: Metadata, report: Report) -> str | None:
    """One that the release knows; None where it knows none."""
    key = "general.architecture"
    architecture = metadata.scalar(key, "string", required=True)
    if architecture is not None and architecture not in architectures():
        report.problem("L001", key, f"{key} is {architecture!r}, which llama.cpp does not know")
        return None
    return architecture


def _check_types(gguf: Gguf, held: Mapping[str, Tensor], report: Report) -> None:
    """The release reads its own type ids, and no file in the other byte order."""
    if gguf.order != "<":
        report.problem("L001", "byte order", "the file is big-endian, and llama.cpp reads those of its machine's order")
    known = DIALECTS[REFERENCE].ids
    for tensor in held.values():
        kind = known.get(tensor.type_id)
        if kind is None or nbytes(kind, tensor.shape) != tensor.nbytes:
            sentence = f"tensor {tensor.name} is {tensor.type_name}, type id {tensor.type_id}, unknown to llama.cpp"
            report.problem("L005", tensor.name, sentence)
