"""A folder of safetensors as the GGUF tensors that convert_hf_to_gguf makes of it."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field, replace
from pathlib import Path

from hifi_ref.model_files.files import release
from hifi_ref.model_files.gguf_file import Gguf, printable
from hifi_ref.model_files.hugging_face import names as naming
from hifi_ref.model_files.hugging_face.classes import family_of
from hifi_ref.model_files.hugging_face.families import FAMILIES
from hifi_ref.model_files.hugging_face.generated import generated
from hifi_ref.model_files.hugging_face.model import Model, read_model
from hifi_ref.model_files.hugging_face.packed import unpacked
from hifi_ref.model_files.hugging_face.steps import run
from hifi_ref.model_files.hugging_face.tensors import Tensor, beside, joined, stored_tensor, weights_of
from hifi_ref.model_files.safetensors_file import read_safetensors
from hifi_ref.model_files.weights import NotKnown, Weights


@dataclass
class Checkpoint:
    """``tensors`` are those of the GGUF by its names, ``generated`` those that config.json alone gives.

    A file may lack those that are ``optional``. ``unmapped`` are names of the checkpoint that the GGUF has none for,
    ``elsewhere`` those of parts that see or hear, which belong into another file. ``doubt`` says why nothing is
    known of what is missing. ``maps`` are the files' memory maps.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    generated: dict[str, Tensor] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    unmapped: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    doubt: str = ""
    maps: list[mmap.mmap] = field(default_factory=list)

    def find(self, name: str) -> Weights | None:
        """The weights of a GGUF's tensor, None where the checkpoint has none. Raises NotKnown."""
        tensor = self.tensors.get(name) or self.generated.get(name)
        if tensor is None or not tensor.unknown and not math.prod(tensor.shape):
            if self.doubt:
                raise NotKnown(self.doubt)
            return None
        if tensor.unknown:
            raise NotKnown(tensor.unknown)
        return replace(weights_of(tensor), forget=self.forget)

    def forget(self) -> None:
        """Give back the memory of what was read; it is read again where it is needed."""
        for data in self.maps:
            release(data, 0, len(data))


def open_checkpoint(path: Path, target: Gguf) -> Checkpoint:
    """What the converter makes of a checkpoint for ``target``. Raises OSError or SafetensorsError in one sentence."""
    entries = read_safetensors(path)
    model = read_model(path, target)
    checkpoint = Checkpoint(generated=generated(model), doubt=_doubt(model))
    checkpoint.maps = list({id(entry.data): entry.data for entry in entries.values()}.values())
    held = {tensor.name for tensor in target.tensors}
    names = naming.Names(model.arch, entries, held)
    stored = {}
    # In the order of their names, as the converter takes them.
    for name, entry in sorted(entries.items()):
        if naming.is_of_another_file(name):
            checkpoint.elsewhere.append(name)
        elif not name.endswith(naming.DROPPED):
            stored[naming.plain_name(name)] = stored_tensor(entry)
    _fill(checkpoint, model, names, unpacked(stored, model.config))
    checkpoint.optional = {name for name in checkpoint.tensors if name not in held and _may_lack(name, model, held)}
    return checkpoint


_LATENT = (".attn_k_b.weight", ".attn_v_b.weight", ".attn_kv_b.weight")


def _may_lack(name: str, model: Model, held: set[str]) -> bool:
    """Whether the converter may leave the tensor out: layers that predict further tokens, an output that is shared."""
    if name == "output.weight":
        return family_of(model.hf_class, model.arch) == "mamba"
    if name.endswith(_LATENT):
        # One way or the other: apart, or as older converters left it.
        apart, whole = name.endswith(_LATENT[:2]), name.rsplit(".", 2)[0] + ".attn_kv_b.weight" in held
        return apart == whole
    layer = naming.NUMBER.search(name)
    if layer is None or not name.startswith("blk.") or int(layer[1]) < model.layers:
        return False
    return not any(other.startswith(f"blk.{layer[1]}.") for other in held)


def _fill(checkpoint: Checkpoint, model: Model, names: naming.Names, tensors: dict[str, Tensor]) -> None:
    steps = FAMILIES[family_of(model.hf_class, model.arch) or "plain"]
    numbered: dict[tuple[str, str], dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        for new, made in run(steps, naming.further_layer(name, model.layers), tensor, model):
            if checkpoint.doubt and not made.doubt:
                made = replace(made, doubt=checkpoint.doubt)
            found = names.gguf_name(new)
            match = naming.NUMBERED.fullmatch(new)
            if found is None and match is not None:
                numbered.setdefault((match["before"], match["after"]), {})[int(match["number"])] = made
            elif found is None or found in checkpoint.tensors:
                checkpoint.unmapped += [] if name in naming.SHARED else made.names
            else:
                checkpoint.tensors[found] = made
    stacks, unmapped = naming.stack(numbered, names)
    checkpoint.tensors |= stacks
    checkpoint.unmapped += unmapped
    for name in model.rows_in_file:
        if name not in checkpoint.tensors and name.endswith((".attn_qkv.weight", ".ffn_gate_up_exps.weight")):
            _fuse(checkpoint.tensors, name.removesuffix("weight"))


def _fuse(tensors: dict[str, Tensor], fused: str) -> None:
    """What the converter's --fuse-qkv and --fuse-gate-up-exps make, in the place of the parts."""
    layer, kind = fused.rsplit(".", 2)[:2]
    parts = ("attn_q", "attn_k", "attn_v") if kind == "attn_qkv" else ("ffn_gate_exps", "ffn_up_exps")
    for ending in ("weight", "bias"):
        names = [f"{layer}.{part}.{ending}" for part in parts]
        every = [tensors[name] for name in names if name in tensors and not tensors[name].unknown]
        axes = {tensor.shape[1:] if kind == "attn_qkv" else tensor.shape for tensor in every}
        if len(every) == len(parts) and len(axes) == 1:
            tensors[fused + ending] = joined(every) if kind == "attn_qkv" else beside(*every)
            for name in names:
                del tensors[name]


def _doubt(model: Model) -> str:
    """Why what the converter does to this model is not known; "" where it is."""
    if family_of(model.hf_class, model.arch) is not None:
        return ""
    what = model.hf_class or f"the architecture {model.arch}, for which there is no config.json beside the source"
    return f"not judged: what the converter changes of {printable(what)} is not known here"
