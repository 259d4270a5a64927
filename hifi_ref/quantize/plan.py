"""What becomes of one tensor: copied, or encoded in a format that fits its rows, with its share of the importance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.formats.hifi import importance as importance_of
from hifi_ref.mixtures.hifi import fork_outliers
from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.mixtures.rows import FALLBACK, FORK_FALLBACK, that_fits
from hifi_ref.mixtures.rules import EMBEDDINGS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.imatrix import Imatrix

FLOATS = ("F32", "F16", "BF16")


class Plan(NamedTuple):
    """What becomes of one tensor: its format, more arguments of its encoder, and a row of importance per matrix."""

    tensor: Tensor
    format: str
    context: dict[str, Any]
    importance: np.ndarray | None


def plan_of(
    tensor: Tensor, format_of: Callable[[Tensor], str], metadata: dict[str, Any], imatrix: Imatrix | None
) -> Plan:
    """The plan of one tensor, with the choice's format and metadata. Raises InputError where it cannot be encoded."""
    if not is_quantized(tensor.name, tensor.shape):
        return Plan(tensor, tensor.type_name, {}, None)
    if tensor.type_name not in FLOATS:
        raise InputError(f"tensor {tensor.name} is {tensor.type_name}: quantize from F32, F16 or BF16")
    name = that_fits(format_of(tensor), tensor.shape[0], FORK_FALLBACK if "model" in metadata else FALLBACK)
    f = FORMATS[name]
    row = None if imatrix is None else imatrix.rows.get(tensor.name)
    misfit = row is not None and row.size != tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1)
    if row is not None and misfit and tensor.name not in EMBEDDINGS:
        raise InputError(f"the importance of {tensor.name} has {row.size} values for a shape of {list(tensor.shape)}")
    if misfit or f.block_size == 1:
        row = None
    if f.requires_weights and row is None:
        raise InputError(f"{name} cannot be encoded without importance, and there is none for {tensor.name}")
    context: dict[str, Any] = {}
    if "model" in metadata and f.outliers is not None:
        own = None if row is None else float(importance_of.of_tensor(row.reshape(1, -1))[0])
        count = fork_outliers(tensor.name, name, metadata["model"], own)
        context |= {} if count is None else {"outliers": count}
    if f.by_model_size:
        context["model_params"] = metadata["model_params"]
    return Plan(tensor, name, context, None if row is None else row.reshape(-1, tensor.shape[0]))
