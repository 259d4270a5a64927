"""The file around the blocks, as llama-quantize of the release writes it: order of tensors, metadata.

Reference: llama_model_quantize_impl (llama-quant.cpp) and llama_quantize (tools/quantize) of llama.cpp v0.5.0.
"""

from __future__ import annotations

from hifi_ref.mixtures import llama_quantize
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_model import DEFAULT_ALIGNMENT, Gguf, Tensor
from hifi_ref.model_files.imatrix import Imatrix

QUANTIZATION_VERSION = 2
SPLIT = ("split.no", "split.count", "split.tensors.count")
# The longest text that llama-quantize keeps of a path or of a data set's name.
LONGEST = 127


def in_order(gguf: Gguf) -> list[Tensor]:
    """The tensors in the release's order. Raises InputError for a file that it would write otherwise than it reads."""
    if gguf.alignment != DEFAULT_ALIGNMENT:
        raise InputError(f"its alignment is {gguf.alignment}, by which llama-quantize writes broken files")
    shards = gguf.metadata.get("split.count")
    if shards is not None and (shards.integer or 0) > 1:
        raise InputError(f"it is one of {shards.integer} shards: merge them first, with gguf-split --merge")
    tensors = {tensor.name: tensor for tensor in gguf.tensors}
    return [tensors[name] for name in llama_quantize.in_order(tensors)]


def changes(file_type: str, imatrix: Imatrix | None, path: str | None) -> dict[str, int | float | str | None]:
    """What becomes of the source's metadata; ``path`` is that of the importance matrix, as it was given."""
    found: dict[str, int | float | str | None] = {
        "general.quantization_version": QUANTIZATION_VERSION,
        "general.file_type": llama_quantize.file_types()[file_type], **dict.fromkeys(SPLIT),
    }  # fmt: skip
    if imatrix is not None:
        found["quantize.imatrix.file"] = _cut(path or "")
        if imatrix.datasets:
            found["quantize.imatrix.dataset"] = _cut(imatrix.datasets[0])
        found["quantize.imatrix.entries_count"] = len(imatrix.rows)
        if imatrix.chunks > 0:
            found["quantize.imatrix.chunks_count"] = imatrix.chunks
    return found


def _cut(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:LONGEST].decode("utf-8", "surrogateescape")
