"""What is measured: rows, each with the scheme that every matrix of the sample model gets."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hifi_ref.formats import FORMATS, HIFI
from hifi_ref.mixtures import hifi, llama_quantize, model, roadmaps
from hifi_ref.model_files.gguf_file import Gguf
from hifi_ref.sweep.configurations import Configuration, configurations

BASE = "F16"
# Of the matrices' importance: over both texts, as the roadmaps mix them, or over one.
MIXED, PROSE, CODE = "mixed", "prose", "code"
# Of the neighbours each scheme as its users mostly have it, and those that are as large as formats of llama.cpp.
NEIGHBOURS = (
    "bitsandbytes.nf4 block_size=64 nested=False", "bitsandbytes.nf4 block_size=64 nested=True",
    "bitsandbytes.fp4 block_size=64 nested=False", "bitsandbytes.llm-int8", "bitsandbytes.int8 block_size=256",
    "mx.fp4_e2m1 rule=floor", "mx.fp4_e2m1 rule=even", "mx.fp6_e2m3 rule=floor", "mx.fp6_e3m2 rule=floor",
    "mx.fp8_e4m3 rule=floor", "nvfp4 writer=modelopt", "nvfp4 writer=torchao",
    "gptq bits=2 group_size=128", "gptq bits=3 group_size=128", "gptq bits=4 group_size=128",
    "gptq bits=8 group_size=128", "awq group_size=128",
    "compressed-tensors bits=4 group_size=128 symmetric=True",
    "compressed-tensors bits=4 group_size=128 symmetric=False",
    "hqq bits=2 group_size=64", "hqq bits=3 group_size=64", "hqq bits=4 group_size=64",
    "mlx.affine bits=2 group_size=64", "mlx.affine bits=3 group_size=64", "mlx.affine bits=4 group_size=64",
    "mlx.affine bits=5 group_size=64", "mlx.affine bits=6 group_size=64", "mlx.affine bits=8 group_size=64",
    "fp8.block scale_type=f32", "fp8.tensor scale_type=f32", "web-rwkv.int8", "web-rwkv.nf4", "web-rwkv.sf4",
)  # fmt: skip
# Types that a part of the model alone is given, to see how much it matters.
LOW = "Q2_K"
# Weights as they are, with activations encoded as for this format: what no type of its kind goes below.
FLOORS = {"activations in Q8_0": "Q8_0", "activations in Q8_K": "Q6_K"}
FLOATS = ("F32", BASE, "BF16")
SCHEMES = {c.name: c for c in configurations(("llama.cpp", "hifi", "neighbours"))}


class Row(NamedTuple):
    """``schemes``: of each matrix, a name of SCHEMES; ``importance``: which one encoders are given, none where empty;
    ``fork``: the model, where the HIFI fork's rules say how many outliers are kept."""

    family: str
    name: str
    schemes: Mapping[str, str]
    importance: str = ""
    fork: hifi.Model | None = None

    @property
    def key(self) -> str:
        given = f", importance {self.importance}" if self.importance else ""
        return f"{self.family}: {self.name}{given}"


def rows(gguf: Gguf, matrices: list[str]) -> list[Row]:
    """All, in the order in which they are measured."""
    found = [*_types(matrices), *_mixtures(gguf, matrices), *_fork(gguf, matrices), *_roadmaps(matrices)]
    found += [*_parts(matrices), *_importances(gguf, matrices)]
    found += [_even("neighbour", name, matrices) for name in NEIGHBOURS]
    return found + [Row("floor", name, dict.fromkeys(matrices, BASE)) for name in FLOORS]


def configuration(name: str) -> Configuration:
    return SCHEMES[name]


def takes_importance(scheme: str) -> bool:
    """Whether an encoder looks at the importance of weights."""
    return scheme in FORMATS and scheme not in ("F32", "F16", "BF16", "Q8_0", "Q8_1", "Q8_K", "Q1_0", "Q2_0", "TQ1_0",
                                                "TQ2_0", "MXFP4", "NVFP4", "Q3_K_HIFI_RES8")  # fmt: skip


def kind_and_layer(name: str) -> tuple[str, int]:
    """ "attn_v" and 3 of "blk.3.attn_v.weight"; the layer of what stands outside of layers is -1."""
    found = re.match(r"blk\.(\d+)\.", name)
    return hifi.kind_of(name), int(found[1]) if found else -1


def _even(family: str, name: str, matrices: list[str], importance: str = "") -> Row:
    return Row(family, name, dict.fromkeys(matrices, name), importance)


def _both(row: Row) -> list[Row]:
    """Without importance, and with it where it makes a difference."""
    weighted = any(map(takes_importance, row.schemes.values()))
    return [row, row._replace(importance=MIXED)] if weighted else [row]


def _types(matrices: list[str]) -> list[Row]:
    names = [name for name, c in SCHEMES.items() if c.format is not None]
    family = {name: "LITE" if name.endswith("LITE") else "HIFI" if name in HIFI else "type" for name in names}
    return list(itertools.chain(*(_both(_even(family[name], name, matrices)) for name in names)))


def _mixtures(gguf: Gguf, matrices: list[str]) -> list[Row]:
    """As llama-quantize chooses; without importance only where it does without."""
    described = model.read(gguf)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in gguf.tensors}
    found = []
    for name, importance in itertools.product(llama_quantize.file_types(), ("", MIXED)):
        types = llama_quantize.choose(name, described, shapes, bool(importance))
        schemes = {matrix: types[matrix] or BASE for matrix in matrices}
        needy = any(llama_quantize.needs_importance(name, *pair) for pair in schemes.items())
        if name not in FLOATS and (importance or not needy):
            found.append(Row("mixture", name, schemes, importance))
    return found


def _fork(gguf: Gguf, matrices: list[str]) -> list[Row]:
    described, found = hifi.read(gguf), []
    for name in hifi.FORK_FILE_TYPES:
        schemes = {matrix: hifi.fork_format(name, matrix, described) for matrix in matrices}
        found += _both(Row("fork", name, schemes, fork=described))
    return found


def _roadmaps(matrices: list[str]) -> list[Row]:
    """The mixes of `quantize --hifi`, and those that the roadmaps' texts spell out."""
    planned = {f"mix {mix}": {m: roadmaps.roadmap_format(mix, m) for m in matrices} for mix in roadmaps.ROADMAP}
    layers = 1 + max(kind_and_layer(m)[1] for m in matrices)
    spelled = {name: {m: of(*kind_and_layer(m), layers) for m in matrices} for name, of in RECIPES.items()}
    return list(itertools.chain(*(_both(Row("roadmap", name, of)) for name, of in (planned | spelled).items())))


def _q4_hifi(kind: str, layer: int, layers: int) -> str:
    kept = kind == "attn_v" or (kind == "ffn_down" and layer < layers / 2)
    return "Q4_HIFI" if kept else "Q6_K" if kind == "token_embd" else "Q4_K"


def _q3_hifi(kind: str, layer: int, layers: int) -> str:
    kept = kind == "attn_v" or (kind == "ffn_down" and layer < layers / 3)
    return "Q3_K_HIFI" if kept else {"token_embd": "Q6_K", "attn_output": "Q4_K"}.get(kind, "Q3_K")


def _q3_k_hifi(kind: str, layer: int, layers: int) -> str:
    return "Q3_K_HIFI" if kind in ("attn_v", "ffn_down", "token_embd") and layer <= 10 else "Q3_K"


def _q4_k_hifi_m(kind: str, layer: int, layers: int) -> str:
    five, six = ("attn_v", "ffn_gate"), ("ffn_down", "attn_output", "token_embd")
    return "Q5_K" if kind in five else "Q6_K" if kind in six else "Q4_K"


def _q4_k_hifi_l(kind: str, layer: int, layers: int) -> str:
    return "Q6_K_HIFI_L" if kind in ("ffn_down", "attn_output", "token_embd") else "Q4_K"


# token_embd is lm_head here, whose type it takes.
RECIPES: dict[str, Callable[[str, int, int], str]] = {
    "Q4_HIFI": _q4_hifi, "Q3_HIFI": _q3_hifi, "Q3_K_HIFI": _q3_k_hifi, "Q4_K_HIFI_M": _q4_k_hifi_m,
    "Q4_K_HIFI_L": _q4_k_hifi_l,
}  # fmt: skip


def _parts(matrices: list[str]) -> list[Row]:
    """One kind of matrix, or one layer, in few bits, and all others as they are."""
    kinds = dict.fromkeys(kind_and_layer(m)[0] for m in matrices)
    layers = dict.fromkeys(layer for m in matrices if (layer := kind_and_layer(m)[1]) >= 0)
    by_kind = {kind: [m for m in matrices if kind_and_layer(m)[0] == kind] for kind in kinds}
    by_layer = {f"layer {i}": [m for m in matrices if kind_and_layer(m)[1] == i] for i in layers}
    return [
        Row("part", f"{name} in {LOW}", {m: LOW if m in part else BASE for m in matrices})
        for name, part in (by_kind | by_layer).items()
    ]


def _importances(gguf: Gguf, matrices: list[str]) -> list[Row]:
    """Importance over one kind of text alone, beside the mixed one that is measured anyway."""
    mixed = [row for row in _mixtures(gguf, matrices) if row.importance and row.name in ("IQ2_XS", "Q2_K", "Q3_K_M")]
    return [row._replace(importance=text) for row in mixed for text in (PROSE, CODE)]
