"""The mixture that web-rwkv's GGUF fork plans: more bits where a model begins and ends.

    tensor                                       stored as
    embeddings, head                             F16
    matrices of the first and last two layers    web-rwkv.int8, 8.25 bits per weight
    matrices of the layers between               web-rwkv.nf4, 4.25
    vectors, norms, what llama-quantize keeps    F16

Names are RWKV's own (emb.weight, blocks.0.att.key.weight) or GGUF's (token_embd.weight, blk.0.time_mix_key.weight).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from hifi_ref.mixtures.kept import is_quantized

# Layers at either end that keep eight bits.
ENDS = 2
OUTER, INNER, HALF = "web-rwkv.int8", "web-rwkv.nf4", "F16"
# Weights of a word of codes in both schemes.
WORD = 8
_LAYER = re.compile(r"(?:^|\.)(?:blocks|blk|layers)\.(\d+)\.")


def layer_of(name: str) -> int | None:
    """The number of the layer that a tensor belongs to; None for embeddings, head and the norms around them."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def types(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The type of each tensor, from the shapes of all: a scheme's name, or "F16".

    The layers are those that names mention: of four or fewer all are ends. A matrix whose weights fill no whole words
    stays F16.
    """
    layers = 1 + max((layer for layer in map(layer_of, shapes) if layer is not None), default=-1)

    def chosen(name: str, shape: Sequence[int]) -> str:
        layer = layer_of(name)
        if layer is None or not is_quantized(name, shape) or math.prod(shape) % WORD:
            return HALF
        return OUTER if layer < ENDS or layer >= layers - ENDS else INNER

    return {name: chosen(name, shape) for name, shape in shapes.items()}


def sizes(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Bytes of each tensor under ``types``, codes and scales together."""
    return {name: bytes_of(kind, shapes[name]) for name, kind in types(shapes).items()}


def bytes_of(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor of that type: a scheme's name with its default parameters, or "F16"."""
    if kind == HALF:
        return 2 * math.prod(shape)
    from hifi_ref.neighbours import SCHEMES  # which take long to import

    scheme = SCHEMES[kind]
    stored = scheme.shapes(tuple(shape), **scheme.with_defaults({}))
    widths = {"uint8": 1, "int8": 1, "float16": 2, "float32": 4}
    return sum(math.prod(array) * widths[scheme.stored[name].dtype] for name, array in stored.items())
