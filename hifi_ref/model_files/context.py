"""What an encoder was given besides the weights, as a quantized file keeps it in its metadata.

hifi_ref.dialect        whose type ids the file uses, a key of DIALECTS
hifi_ref.model_params   f32, billions of parameters: given to formats that take their counts from it
hifi_ref.outliers       JSON, tensor -> outliers per block, where a policy chose a number
"""

from __future__ import annotations

import json
from typing import Any

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_model import Gguf, GgufError

DIALECT, MODEL_PARAMS, OUTLIERS = "hifi_ref.dialect", "hifi_ref.model_params", "hifi_ref.outliers"


def contexts(gguf: Gguf) -> dict[str, dict[str, Any]]:
    """For each tensor that has one: keyword arguments of hifi_ref.encode. Raises GgufError where they make no sense."""
    size = gguf.metadata.get(MODEL_PARAMS)
    text = gguf.text(OUTLIERS)
    try:
        counts = json.loads(text) if text else {}
        found: dict[str, dict[str, Any]] = {}
        for tensor in gguf.tensors:
            f = FORMATS.get(tensor.type_name)
            if f is None or f.dialect == "llama.cpp":
                continue
            context = {}
            if tensor.name in counts:
                context["outliers"] = counts[tensor.name]
            if size is not None and size.kind == "f32" and f.by_model_size:
                context["model_params"] = size.scalar
            f.in_context(**{"outliers": None, "model_params": None} | context)
            if context:
                found[tensor.name] = context
    except (ValueError, TypeError) as error:
        raise GgufError(f"the metadata {OUTLIERS} or {MODEL_PARAMS} makes no sense: {error}") from None
    return found
