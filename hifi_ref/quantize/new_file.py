"""A whole file quantized: every tensor planned, then encoded a piece at a time into a new file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.lanes import choose
from hifi_ref.mixtures.hifi import FORK_FILE_TYPES
from hifi_ref.mixtures.kept import dimensions
from hifi_ref.model_files import context, gguf_write
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError, replacing
from hifi_ref.model_files.gguf_file import Gguf, Tensor, open_gguf
from hifi_ref.model_files.imatrix import Imatrix
from hifi_ref.model_files.source import Weights, open_source
from hifi_ref.quantize import as_released
from hifi_ref.quantize.choices import Choice, Chosen
from hifi_ref.quantize.plan import Plan, plan_of

# Weights that are encoded in one go.
PIECE = 1 << 21
HIFI_DIALECT = "hifi-lite"


def quantize(
    source: str,
    out: str,
    choice: Choice,
    imatrix: Imatrix | None = None,
    imatrix_path: str | None = None,
    progress: Callable[[int], object] = lambda n: None,
) -> list[Plan]:
    """Quantize a file. Raises OSError, or InputError in one sentence; then nothing is written.

    ``progress`` is called with the number of weights whenever some are done.
    """
    gguf = open_gguf(source)
    if not gguf.tensors:
        raise InputError(f"{source} has no tensors")
    weights = open_source(source, gguf)
    chosen = choice(gguf, imatrix)
    tensors = as_released.in_order(gguf) if chosen.mixture else gguf.tensors
    plans = [plan_of(tensor, chosen.format_of, chosen.metadata, imatrix) for tensor in tensors]
    used = {FORMATS[plan.format].dialect for plan in plans if plan.format in FORMATS}
    foreign = chosen.name.startswith("fork ") or "hifi" in used
    known = {kind.name: type_id for type_id, kind in DIALECTS[HIFI_DIALECT if foreign else REFERENCE].ids.items()}
    for plan in plans:
        if plan.format not in known:
            raise InputError(f"{plan.format} has no number in GGUF, so no file can hold it")
    entries = [
        gguf_write.Entry(gguf.raw_name(plan.tensor), _shape(plan, chosen), known[plan.format], _nbytes(plan))
        for plan in plans
    ]
    if chosen.mixture:
        changes = as_released.changes(chosen.mixture, imatrix, imatrix_path)
    else:
        changes = _changes(chosen, plans, foreign, imatrix_path)
    with replacing(out, "wb") as file:
        gguf_write.write(file, gguf, changes, entries, _data(gguf, plans, weights.find, progress))
    return plans


def _changes(
    chosen: Chosen, plans: list[Plan], foreign: bool, imatrix_path: str | None
) -> dict[str, int | float | str | None]:
    """What becomes of the source's metadata, so that a reader knows what the encoders were given."""
    counts = {plan.tensor.name: plan.context["outliers"] for plan in plans if "outliers" in plan.context}
    sized = any("model_params" in plan.context for plan in plans)
    return {
        "general.file_type": _file_type(chosen.name), "general.quantization_version": as_released.QUANTIZATION_VERSION,
        "quantize.imatrix.file": os.path.basename(imatrix_path) if imatrix_path else None,
        context.DIALECT: HIFI_DIALECT if foreign else None,
        context.MODEL_PARAMS: chosen.metadata.get("model_params") if sized else None,
        context.OUTLIERS: json.dumps(counts) if counts else None,
    }  # fmt: skip


def _shape(plan: Plan, chosen: Chosen) -> tuple[int, ...]:
    shape = plan.tensor.shape
    return shape[: dimensions(shape)] if chosen.mixture else shape


def _nbytes(plan: Plan) -> int:
    if plan.format == plan.tensor.type_name:
        return plan.tensor.known_nbytes
    f = FORMATS[plan.format]
    return plan.tensor.elements // f.block_size * f.type_size


def _file_type(name: str) -> int | None:
    """general.file_type of one llama.cpp format, or of the fork; None for what has no number."""
    if name.startswith("fork "):
        return FORK_FILE_TYPES[name.removeprefix("fork ")]
    return next((n for n, (stored, _) in FILE_TYPES.items() if stored in (name, f"{name}_S")), None)


def _data(
    gguf: Gguf, plans: list[Plan], find: Callable[[str], Weights | None], progress: Callable[[int], object]
) -> Iterator[bytes]:
    """The bytes of all tensors, in pieces that never span two."""
    work = [(p.format, p.importance is not None, p.tensor.elements) for p in plans if p.format != p.tensor.type_name]
    choose.announce(work)
    for plan in plans:
        if plan.format == plan.tensor.type_name:
            yield from _copied(gguf, plan.tensor)
        elif (weights := find(plan.tensor.name)) is not None:
            # An empty tensor has no weights, and no bytes.
            yield from _encoded(plan, weights, progress)


def _copied(gguf: Gguf, tensor: Tensor) -> Iterator[bytes]:
    end = tensor.start + tensor.known_nbytes
    for start in range(tensor.start, end, PIECE):
        yield bytes(gguf.data[start : min(start + PIECE, end)])


def _encoded(plan: Plan, weights: Weights, progress: Callable[[int], object]) -> Iterator[bytes]:
    """The blocks of one tensor. Raises InputError where a weight is not finite."""
    tensor = plan.tensor
    row = tensor.shape[0]
    importance: list[np.ndarray | None] = [None] if plan.importance is None else list(plan.importance)
    rows = tensor.elements // row // len(importance)
    step = max(1, PIECE // row)
    for matrix, own in enumerate(importance):
        for first in range(matrix * rows, (matrix + 1) * rows, step):
            x = weights.rows(slice(first, min(first + step, (matrix + 1) * rows)))
            if not np.isfinite(x).all():
                bad = first * row + int(np.argmin(np.isfinite(x)))
                raise InputError(f"weight {bad} of tensor {tensor.name} is not finite: it cannot be quantized")
            blocks = api.encode(plan.format, x, own, **plan.context)
            progress(x.size)
            yield blocks.tobytes()
