"""Which tensor of a GGUF a tensor of a checkpoint becomes: by gguf-py's tables, its experts stacked.

The numbers of a layer's experts are tensors of their own in most checkpoints; the converter stacks them into one.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterable

from hifi_ref.model_files.hugging_face.tensors import Tensor, stacked, unknown_tensor

NUMBER = re.compile(r"\.(\d+)\.")
# The most layers that names are made for.
MOST_LAYERS = 1024
# Of one number each, of experts and of norms of heads: what stands before the number, the number, and what after it.
NUMBERED = re.compile(
    r"(?P<before>.*\.(?:experts|chunk_experts|moe|norms|altup_projections|altup_unembed_projections))"
    r"\.(?P<number>\d+)\.(?P<after>.*)"
)
# What the converter leaves out of every checkpoint.
DROPPED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq", ".masked_bias")
# Tensors that see or hear: the converter writes them to a file of their own, or not at all.
_STARTS = (
    "mlp", "vit.", "vpm.", "siglip2.", "conformer.", "merger.", "resampler.", "sound_encoder.", "sound_projection.",
    "speech_embeddings.", "model.vqmodel.", "model.aligner.", "model.generation_", "aligner.",
    "mm_projector.", "audio_encoder.", "linear_proj.", "image_",
)  # fmt: skip
_PARTS = (
    "visual.", "vision.", "audio.", "talker.", "vision_", "audio_", "token2wav.", "code2wav.", "projector.",
    "pre_mm_projector_norm", "image_newline", "view_seperator", "patch_embed", "patch_merger.", "patch_merge_mlp.",
    "model.connector.", "sam_model", "qwen2_model", "layerwise_projectors", "spatial_projectors",
)  # fmt: skip
# Of what stands under several of these names, the converter takes the first.
SHARED = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# What qwen's layers that predict further tokens are called.
_FURTHER = {
    "fc": "eh_proj",
    "pre_fc_norm_embedding": "enorm",
    "pre_fc_norm_hidden": "hnorm",
    "norm": "shared_head.norm",
}
_SUFFIXES = (".weight", ".bias", ".scale", ".scales")
# What may stand before a name that the tables know, or be missing before it.
_PREFIXES = ("model.", "transformer.", "language_model.", "thinker.", "llm.", "text_model.", "bert.", "lfm.")


def is_of_another_file(name: str) -> bool:
    """Whether the converter keeps this tensor out of the file of the text model."""
    return name.startswith(_STARTS) or any(part in name for part in _PARTS)


def plain_name(name: str) -> str:
    """The name without what the converter takes off before all else."""
    if name.endswith("e_score_correction_bias"):
        name = name.removesuffix("_bias") + ".bias"
    for part in ("language_model.", "text_model."):
        name = name.replace(part, "")
    return name.removeprefix("thinker.").removeprefix("llm.")


def further_layer(name: str, layers: int) -> str:
    """A name of qwen's layers that predict further tokens, as one behind the model's own ``layers``; else the name."""
    match = re.fullmatch(r"(?:model\.)?mtp\.(?:layers\.(\d+)\.(.*)|(\w+)\.(\w+))", name)
    if match is None or match[3] not in (None, *_FURTHER):
        return name
    if match[3] is None:
        return f"model.layers.{layers + int(match[1])}.{match[2]}"
    return f"model.layers.{layers}.{_FURTHER[match[3]]}.{match[4]}"


class Names:
    """The table of an architecture, with the layers that a checkpoint has; ``held`` are the GGUF's own names.

    What gguf-py's table of the architecture lacks, as that of an older gguf-py does, is sought in those of all others,
    and taken where the GGUF holds a tensor of that name.
    """

    def __init__(self, arch: str, tensors: Iterable[str], held: Collection[str]) -> None:
        import gguf

        architecture = next((a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == arch), None)
        # Also of layers that the file lacks.
        numbers = (int(n) for name in tensors for n in NUMBER.findall(name))
        self._layers = max((n for n in numbers if n < MOST_LAYERS), default=-1) + 1
        self._held = held

        class Table(gguf.TensorNameMap):
            # gguf-py puts the names of some architectures into the table of all: a copy takes them.
            block_mappings_cfg = dict(gguf.TensorNameMap.block_mappings_cfg)

        self._table = None if architecture is None else Table(architecture, self._layers)

    @functools.cached_property
    def _every_table(self) -> dict[str, list[str]]:
        """For each name in any architecture's table, what it may be called in a GGUF."""
        import gguf

        table: dict[str, list[str]] = {}
        for tensor, names in gguf.TensorNameMap.mappings_cfg.items():
            for name in names:
                table.setdefault(name, []).append(gguf.TENSOR_NAMES[tensor])
        for of in (gguf.TensorNameMap.block_mappings_cfg, *gguf.TensorNameMap.arch_block_mappings_cfg.values()):
            for tensor, names in of.items():
                for layer, name in itertools.product(range(self._layers), names):
                    table.setdefault(name.format(bid=layer), []).append(gguf.TENSOR_NAMES[tensor].format(bid=layer))
        return table

    def gguf_name(self, name: str) -> str | None:
        """The GGUF's name for the checkpoint's, or for the GGUF's own."""
        if name in self._held:
            return name
        bare = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
        candidates = (name, f"model.{name}", bare, f"model.{bare}")
        if self._table is not None:
            for candidate in candidates:
                known = self._table.get_name(candidate, try_suffixes=_SUFFIXES)
                if known is not None:
                    return known.replace(".scales", ".act.scales")
        for candidate, suffix in itertools.product(candidates, ("", *_SUFFIXES)):
            found = self._every_table.get(candidate.removesuffix(suffix), []) if candidate.endswith(suffix) else []
            for each in found:
                if each + suffix in self._held:
                    return each + suffix
        return None

    def of_experts(self, before: str, after: str) -> str | None:
        """The GGUF's name for the stack of such tensors."""
        layer = next((part for part in before.split(".") if part.isdecimal()), "")
        candidates = (
            f"{before}.{after}", f"{before.removesuffix('.norms')}.{after}",
            f"model.layers.{layer}.mlp.experts.{after}",
            f"layers.{layer}.feed_forward.experts.{after}", f"transformer.decoder_layer.{layer}.moe.{after}",
        )  # fmt: skip
        return next((name for name in map(self.gguf_name, candidates) if name is not None), None)


def stack(numbered: dict[tuple[str, str], dict[int, Tensor]], names: Names) -> tuple[dict[str, Tensor], list[str]]:
    """The stacks by the GGUF's names, and the names of what has none there."""
    made: dict[str, Tensor] = {}
    unmapped: list[str] = []
    for (before, after), group in numbered.items():
        name = names.of_experts(before, after)
        every = tuple(n for tensor in group.values() for n in tensor.names)
        if name is None:
            unmapped += every
        else:
            made[name] = _stacked(group, before, every)
    return made, unmapped


def _stacked(group: dict[int, Tensor], before: str, every: tuple[str, ...]) -> Tensor:
    absent = next((i for i in range(max(group)) if i not in group), None)
    if absent is not None:
        return unknown_tensor(every, f"the source lacks number {absent} of {before}")
    ordered = [group[i] for i in range(len(group))]
    why = next((tensor.unknown for tensor in ordered if tensor.unknown), "")
    if not why and len({tensor.shape for tensor in ordered}) > 1:
        why = f"the tensors of {before} have different shapes"
    return unknown_tensor(every, why) if why else stacked(ordered)
