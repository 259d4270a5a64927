"""Shards that were quantized apart: each follows a recipe of llama-quantize, and they do not follow the same.

Only the first shard says which file type the model has, so that the types of the others' tensors must tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from hifi_ref.check.recipe import OWN, Recipe
from hifi_ref.check.report import Part
from hifi_ref.mixtures import llama_quantize, rules
from hifi_ref.mixtures import model as models
from hifi_ref.mixtures.llama_quantize import Options, Refused
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, printable

# So many layers' tensors in one file are not raised by chance to what another file type has.
LAYERS = 2


def check_recipes(parts: Sequence[Part], whole: Gguf, recipe: Recipe, findings: Findings) -> None:
    """Add a finding for each shard that follows another file type's recipe, where others follow the model's own."""
    if len(parts) < 2 or recipe.kind != OWN or recipe.file_type is None:
        return
    choices = list(_choices(whole))
    followed = {part.path: _followed(part.gguf, choices) for part in parts}
    # What all of them follow is no sign of two builds: one model may be quantized so, whatever it is called.
    if not any(recipe.file_type in names for names in followed.values()):
        return
    for path, names in followed.items():
        if names and recipe.file_type not in names:
            file = printable(os.path.basename(path))
            message = f"its tensors have the types that llama-quantize chooses for {names[0]}"
            findings.add(Finding("S004", f"{file}: {message}, and the model is {recipe.file_type}", file=file))


def _followed(shard: Gguf, choices: Sequence[tuple[str, dict[str, str | None]]]) -> list[str]:
    """The file types that every quantized tensor of a shard follows; none where it has too few layers to tell."""
    types = {t.name: t.type_name for t in shard.tensors if t.known_type.block_size > 1}
    if len({rules.layer_of(name) for name in types if name.startswith("blk.")}) < LAYERS:
        return []
    return [name for name, chosen in choices if all(chosen[tensor] == has for tensor, has in types.items())]


def _choices(whole: Gguf) -> Iterator[tuple[str, dict[str, str | None]]]:
    """(file type, type of every tensor) for whatever llama-quantize would make of the model."""
    model, shapes = models.read(whole), {tensor.name: tensor.shape for tensor in whole.tensors}
    for name in llama_quantize.file_types():
        for importance in (False, True):
            for options in (Options(), Options(keep_split=True)):
                try:
                    yield name, llama_quantize.choose(name, model, shapes, importance, options)
                except Refused:
                    continue
