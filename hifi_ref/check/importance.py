"""What a comparison does with an importance matrix: which tensors it bears on, and whether it is this model's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hifi_ref.check.comparison import Coverage, TensorResult
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.imatrix import Imatrix
from hifi_ref.model_files.tensor_types import TensorType

# Whose importance may have another width: llama-quantize goes on without it there, and stops at any other tensor.
EMBEDDING = "token_embd.weight"


def row_of(imatrix: Imatrix, tensor: Tensor) -> np.ndarray | None:
    """f32[columns * matrices] for a tensor; None where the matrix has none of this width."""
    row = imatrix.rows.get(tensor.name)
    return row if row is not None and len(row) == _values(tensor) else None


def misfit(imatrix: Imatrix, tensor: Tensor, source_type: str) -> str | None:
    """Why llama-quantize would stop at the importance of a tensor, in a sentence; None where it would not.

    It looks at that of every matrix whose type is to change.
    """
    row = imatrix.rows.get(tensor.name)
    changed = len(tensor.shape) > 1 and tensor.known_type.name != source_type
    if row is None or not changed or tensor.name == EMBEDDING or len(row) == _values(tensor):
        return None
    return f"the importance matrix has {len(row)} values, and the tensor needs {_values(tensor)}"


def coverage(imatrix: Imatrix, tensors: Sequence[Tensor], results: Sequence[TensorResult]) -> Coverage:
    """How many tensors were made with their importance, of those whose format takes it."""
    kinds = {tensor.name: tensor.known_type for tensor in tensors if tensor.readable}
    taking = [result for result in results if _uses_importance(kinds[result.name])]
    matched = {tensor.name for tensor in tensors} & set(imatrix.rows)
    return Coverage(len(imatrix.rows), len(matched), sum(result.importance for result in taking), len(taking))


def _values(tensor: Tensor) -> int:
    return tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1) if tensor.shape else 1


def _uses_importance(kind: TensorType) -> bool:
    return kind.name in FORMATS and FORMATS[kind.name].uses_importance
