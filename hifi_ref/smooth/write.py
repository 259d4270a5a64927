"""The smoothed model: one GGUF like its source, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import IO

from hifi_ref.commands import terminal
from hifi_ref.model_files import gguf_write
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import replacing
from hifi_ref.model_files.gguf_model import padded
from hifi_ref.models.model import Model, ModelError
from hifi_ref.smooth.fold import FLOATS, Scaling, kind_of, pieces

# What says in the metadata that a model was smoothed, and how.
ALPHA, TARGET, POWERS, TEXT, IDS = (
    f"hifi_ref.smooth.{name}" for name in ("alpha", "target", "powers_of_two", "text", "ids")
)
FILE_TYPE = "general.file_type"
SPLIT = ("split.no", "split.count", "split.tensors.count")


def check_source(model: Model) -> None:
    """Raises ModelError unless all tensors are floats, and nobody smoothed them before."""
    for name, (_, tensor) in model.tensors.items():
        if tensor.type_name not in FLOATS:
            raise ModelError(
                f"{model.name}: the tensor {name} is {tensor.type_name}, and only models in F32, F16 and BF16 are"
                " smoothed: smooth the model first, and quantize it then"
            )
    if ALPHA in model.gguf.metadata:
        raise ModelError(f"{model.name} was smoothed before, as its {ALPHA} says: take the model that it was made from")


def kinds_of(model: Model, scalings: Mapping[str, Scaling]) -> dict[str, str]:
    """The type that each tensor is written in: its own, or F32 where that would round. Raises ModelError."""
    with terminal.progress(len(scalings), "tensors", "checking") as advance:
        found = {}
        for name, scaling in scalings.items():
            found[name] = kind_of(model, name, scaling)
            advance(1, name)
    return found


def write(
    model: Model, out: str, scalings: Mapping[str, Scaling], kinds: Mapping[str, str],
    about: Mapping[str, gguf_write.Change], look: Callable[[str], None],
) -> None:  # fmt: skip
    """Write ``out``, with ``about`` in its metadata. ``look`` is shown the whole file before it takes its place.

    Raises OSError; InputError or whatever ``look`` raises.
    """
    ids = {type_.name: number for number, type_ in DIALECTS[REFERENCE].ids.items()}
    entries = []
    for name, (shard, tensor) in model.tensors.items():
        nbytes = tensor.elements * FLOATS[kinds[name]].itemsize
        entries.append(gguf_write.Entry(shard.raw_name(tensor), tensor.shape, ids[kinds[name]], nbytes))
    changes = {**dict.fromkeys(SPLIT), **_file_type(model, kinds), **about}
    with replacing(out, "wb") as file, terminal.progress(len(kinds), "tensors", "writing") as advance:
        file.write(gguf_write.head(model.gguf, changes, entries))
        for name, entry in zip(kinds, entries, strict=True):
            _write_tensor(model, file, name, scalings[name], kinds[name])
            file.write(bytes(padded(entry.nbytes, model.gguf.alignment) - entry.nbytes))
            advance(1, name)
        file.flush()
        os.fsync(file.fileno())
        look(file.name)


def _write_tensor(model: Model, file: IO, name: str, scaling: Scaling, kind: str) -> None:
    for weights in pieces(model, name, scaling):
        file.write(weights.astype(FLOATS[kind]).tobytes())


def _file_type(model: Model, kinds: Mapping[str, str]) -> dict[str, gguf_write.Change]:
    """That of most weights of the matrices, where the source states one."""
    if FILE_TYPE not in model.gguf.metadata:
        return {}
    weights = dict.fromkeys(FLOATS, 0)
    for name, (_, tensor) in model.tensors.items():
        weights[kinds[name]] += tensor.elements if len(tensor.shape) > 1 else 0
    most = max(weights, key=weights.__getitem__)
    return {FILE_TYPE: next(number for number, (name, _) in FILE_TYPES.items() if name == most)}
