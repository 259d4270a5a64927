"""Which type llama-quantize of the release gives every tensor of a model.

    shapes = {tensor.name: tensor.shape for tensor in gguf.tensors}
    choose("Q4_K_M", model.read(gguf), shapes, importance=True)     # {"output.weight": "Q6_K", ...}

Types do not depend on the weights, nor on what the importance is, only on whether it is given. rules has the rules for
one tensor, rows what takes the place of a type whose blocks do not fill a row, kept what is never quantized.

Reference: llama_model_quantize_impl and llama_tensor_get_type of llama.cpp v0.5.0 (llama-quant.cpp).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import rules
from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.mixtures.model import Model
from hifi_ref.mixtures.rows import FALLBACK, that_fits
from hifi_ref.mixtures.rules import Refused
from hifi_ref.model_files.file_types import FILE_TYPES

# Named, but never written by llama-quantize.
NOT_OFFERED = ("NVFP4",)
# Further names that llama-quantize takes.
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
# Types that the release refuses to write without importance, but for the embeddings and the output.
GUIDED = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")


class Options(NamedTuple):
    """llama-quantize's options. ``overrides`` are pairs of a regular expression, searched for in names, and a type.

    ``keep_split``: tensors are gone through in the order in which they are given.
    """

    pure: bool = False
    leave_output_tensor: bool = False
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    keep_split: bool = False


NO_OPTIONS = Options()


def file_types() -> dict[str, int]:
    """The file types that llama-quantize offers: name -> general.file_type."""
    return {name: number for number, (name, _) in FILE_TYPES.items() if name not in NOT_OFFERED}


def named(text: str) -> str | None:
    """The file type that llama-quantize takes a name for, in any case, or a number; None where it offers none."""
    offered = file_types()
    name = text.upper()
    if name.isdecimal():
        return next((known for known, number in offered.items() if number == int(name)), None)
    name = ALIASES.get(name, name)
    return name if name in offered else None


def default_type(file_type: str) -> str:
    """The type that a file type is named after. Raises Refused where llama-quantize does not offer it."""
    offered = file_types()
    if file_type not in offered:
        raise Refused(f"llama-quantize offers no file type {file_type}")
    return FILE_TYPES[offered[file_type]][1]


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which llama-quantize goes through them, and writes them: by layer, then by their bytes."""
    return sorted(names, key=lambda name: (rules.layer_of(name), name.encode()))


def choose(
    file_type: str,
    model: Model,
    shapes: Mapping[str, tuple[int, ...]],
    importance: bool = False,
    options: Options = NO_OPTIONS,
) -> dict[str, str | None]:
    """The type of every tensor; None for those that stay as they are.

    Args:
        file_type: a name such as "Q4_K_M".
        shapes: of all tensors of the model, row length first; with ``keep_split`` in the order of their files.
        importance: whether an importance matrix is given, whichever tensors it covers.

    Returns:
        In the order in which llama-quantize writes the tensors.

    Raises Refused where llama-quantize stops.
    """
    default = default_type(file_type)
    kinds = {name: rules.kind_of(name) for name in shapes}
    tied = "output" not in kinds.values()
    mix = rules.Mixture(
        file_type, default, model, importance, tied, options.output_tensor_type, options.token_embedding_type
    )
    of_kind = Counter(kinds.values())
    seen: Counter[str] = Counter()
    types: dict[str, str | None] = {}
    for name in shapes if options.keep_split else in_order(shapes):
        kind, shape = kinds[name], shapes[name]
        n = of_kind[kind] if kind == "attn_v" else model.layers
        types[name] = _type_of(mix, rules.Place(name, shape, kind, seen[kind], n), options, seen)
    return types


def _type_of(mix: rules.Mixture, tensor: rules.Place, options: Options, seen: Counter[str]) -> str | None:
    """The type of one tensor; ``seen`` counts those that the rules were asked about, by kind."""
    asked = {"output": options.output_tensor_type, "embedding": options.token_embedding_type}.get(tensor.kind)
    override = next((kind for pattern, kind in options.overrides if re.search(pattern, tensor.name)), None)
    kept = options.leave_output_tensor and tensor.kind == "output"
    if kept or not is_quantized(tensor.name, tensor.shape, mix.model.architecture):
        return None
    if asked and not (override and tensor.name == "per_layer_token_embd.weight"):
        return asked
    if FORMATS[mix.default].block_size == 1:
        return mix.default
    found = override or mix.default
    if not override and not options.pure:
        found = rules.chosen(mix, tensor)
        seen[tensor.kind] += 1
    return _fitting(found, tensor)


def _fitting(found: str, tensor: rules.Place) -> str:
    row, f = tensor.shape[0], FORMATS[found]
    if row % f.block_size and found not in FALLBACK and f.block_size > 32:
        raise Refused(f"{found} does not fit rows of {row} in {tensor.name}, and no type takes its place")
    return that_fits(found, row)


def needs_importance(file_type: str, name: str, chosen: str) -> bool:
    """Whether llama-quantize stops at a tensor of this type for which it has no importance."""
    if name == "output.weight" or name in rules.EMBEDDINGS:
        return False
    return chosen in GUIDED or (file_type == "Q2_K_S" and chosen == "Q2_K")
