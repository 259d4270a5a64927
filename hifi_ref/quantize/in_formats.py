"""A file in one format, in a mix, or as the HIFI fork quantizes, with what its encoders were given in the metadata."""

from __future__ import annotations

import json
import os
from typing import Any

from hifi_ref.formats import FORMATS
from hifi_ref.formats.hifi import importance as importance_of
from hifi_ref.mixtures.hifi import FORK_FILE_TYPES, fork_outliers
from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.mixtures.rows import FALLBACK, FORK_FALLBACK, that_fits
from hifi_ref.model_files import context
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.gguf_write import Change, Entry
from hifi_ref.quantize.as_released import QUANTIZATION_VERSION
from hifi_ref.quantize.choices import Choice, Chosen
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.plan import FLOATS, NewFile, Plan, new_file, share_of
from hifi_ref.quantize.source import SPLIT, Source

HIFI_DIALECT = "hifi-lite"


def in_formats(
    source: Source, out: str, choice: Choice, importance: Importance | None, requantize: bool = False
) -> NewFile:
    """The file that a choice makes of a source. Raises InputError. ``requantize``: also of quantized tensors."""
    chosen = choice(source.whole)
    plans = [_plan_of(tensor, chosen, importance, requantize) for tensor in source.whole.tensors]
    used = {FORMATS[plan.format].dialect for plan in plans if plan.format in FORMATS}
    foreign = chosen.name.startswith("fork ") or "hifi" in used
    known = {kind.name: type_id for type_id, kind in DIALECTS[HIFI_DIALECT if foreign else REFERENCE].ids.items()}
    entries = []
    for plan in plans:
        if plan.format not in known:
            raise InputError(f"{plan.format} has no number in GGUF, so no file can hold it")
        raw = source.holder(plan.tensor).raw_name(plan.tensor)
        entries.append(Entry(raw, plan.tensor.shape, known[plan.format], plan.nbytes))
    changes = _changes(chosen, plans, foreign, importance)
    return new_file(out, chosen.name, source.ggufs[0], changes, plans, entries, [])


def _plan_of(tensor: Tensor, chosen: Chosen, importance: Importance | None, requantize: bool) -> Plan:
    metadata = chosen.metadata
    if not is_quantized(tensor.name, tensor.shape):
        return Plan(tensor, tensor.type_name, {}, None)
    if tensor.type_name not in FLOATS and not (requantize and tensor.type_name in FORMATS):
        raise InputError(
            f"tensor {tensor.name} is {tensor.type_name}: quantize from F32, F16 or BF16, or with --allow-requantize"
        )
    fallback = FORK_FALLBACK if "model" in metadata else FALLBACK
    name = that_fits(chosen.format_of(tensor), tensor.shape[0], fallback)
    f = FORMATS[name]
    row = share_of(importance, tensor, tensor.name, name)
    if f.requires_weights and row is None:
        raise InputError(f"{name} cannot be encoded without importance, and there is none for {tensor.name}")
    arguments: dict[str, Any] = {}
    if "model" in metadata and f.outliers is not None:
        own = None if row is None else float(importance_of.of_tensor(row.reshape(1, -1))[0])
        count = fork_outliers(tensor.name, name, metadata["model"], own)
        arguments |= {} if count is None else {"outliers": count}
    if f.by_model_size:
        arguments["model_params"] = metadata["model_params"]
    return Plan(tensor, name, arguments, row)


def _changes(chosen: Chosen, plans: list[Plan], foreign: bool, importance: Importance | None) -> dict[str, Change]:
    """What becomes of the source's metadata, so that a reader knows what the encoders were given."""
    counts = {plan.tensor.name: plan.context["outliers"] for plan in plans if "outliers" in plan.context}
    sized = any("model_params" in plan.context for plan in plans)
    return {
        "general.file_type": _file_type(chosen.name), "general.quantization_version": QUANTIZATION_VERSION,
        "quantize.imatrix.file": os.path.basename(importance.path) if importance else None,
        context.DIALECT: HIFI_DIALECT if foreign else None,
        context.MODEL_PARAMS: chosen.metadata.get("model_params") if sized else None,
        context.OUTLIERS: json.dumps(counts) if counts else None, **dict.fromkeys(SPLIT),
    }  # fmt: skip


def _file_type(name: str) -> int | None:
    """general.file_type of one llama.cpp format, or of the fork; None for what has no number."""
    if name.startswith("fork "):
        return FORK_FILE_TYPES[name.removeprefix("fork ")]
    return next((n for n, (stored, _) in FILE_TYPES.items() if stored in (name, f"{name}_S")), None)
