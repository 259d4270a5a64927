"""What is compared: every scheme with its parameters, its family and its bits.

Hyper-Quantization's are named by codes, block and scale type: `hyper 4s/32 fp16` has four bits, symmetric, 32 weights a
block, and a scale in binary16; `hyper 4a/16 6s/16 fp8` has a min too, and sixteen scales (and mins) a super-block, in
six bits each, by a scale in E4M3.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any, NamedTuple

from hifi_ref import neighbours as nb
from hifi_ref.formats import FORMATS, HIFI, LLAMA_CPP, Format
from hifi_ref.neighbours.hyper import Kind
from hifi_ref.sweep import hyper
from hifi_ref.sweep.hyper import Choice

FAMILIES = ("llama.cpp", "hifi", "hyper-single", "hyper-double", "neighbours")
# They hold activations, or weights without loss.
NOT_COMPARED = ("F32", "Q8_1", "Q8_K")
# Parameters of the neighbours' schemes that change bits or loss. A scheme that is not named has its defaults alone.
VARIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "bitsandbytes.nf4": {"block_size": (32, 64, 128, 256, 512, 1024), "nested": (False, True)},
    "bitsandbytes.fp4": {"block_size": (32, 64, 128, 256, 512, 1024), "nested": (False, True)},
    "bitsandbytes.int8": {"block_size": (64, 256, 1024, 4096)},
    "mx.fp8_e4m3": {"rule": ("floor", "ceil", "even", "rceil")},
    "mx.fp8_e5m2": {"rule": ("floor", "ceil", "even", "rceil")},
    "mx.fp6_e3m2": {"rule": ("floor", "ceil", "even", "rceil")},
    "mx.fp6_e2m3": {"rule": ("floor", "ceil", "even", "rceil")},
    "mx.fp4_e2m1": {"rule": ("floor", "ceil", "even", "rceil", "modelopt", "mlx", "microxcaling")},
    "nvfp4": {"writer": ("modelopt", "torchao", "torchao-single", "mlx")},
    "gptq": {"bits": (2, 3, 4, 8), "group_size": (32, 64, 128)},
    "awq": {"group_size": (32, 64, 128)},
    "compressed-tensors": {
        "bits": (2, 3, 4, 5, 6, 7, 8), "group_size": (32, 64, 128), "symmetric": (True, False),
    },
    "hqq": {"bits": (1, 2, 3, 4, 8), "group_size": (64,)},
    "mlx.affine": {"bits": (2, 3, 4, 5, 6, 8), "group_size": (32, 64, 128)},
    "fp8.block": {"scale_type": ("f32", "ue8m0")},
    "fp8.tensor": {"scale_type": ("f32", "ue8m0")},
}  # fmt: skip


class Configuration(NamedTuple):
    """One scheme with its parameters.

    ``scheme``: a key of FORMATS, or of neighbours.SCHEMES; ``parameters``: what neighbours.encode takes besides, as
    pairs. ``bits``: a weight, scales included, but not what is stored once a tensor or row.
    """

    name: str
    family: str
    bits: float
    scheme: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def format(self) -> Format | None:
        """The block format, where it is one."""
        return FORMATS.get(self.scheme)


def configurations(families: Collection[str] = FAMILIES) -> list[Configuration]:
    """All of these families, family by family in the order of FAMILIES."""
    makers = {
        "llama.cpp": lambda: [_of_format(f, "llama.cpp") for f in LLAMA_CPP.values() if f.name not in NOT_COMPARED],
        "hifi": lambda: [_of_format(f, "hifi") for f in HIFI.values()],
        "hyper-single": lambda: [of_choice(choice) for choice in hyper.choices(double=False)],
        "hyper-double": lambda: [of_choice(choice) for choice in hyper.choices(double=True)],
        "neighbours": _neighbours,
    }
    return [configuration for family in FAMILIES if family in families for configuration in makers[family]()]


def of_choice(choice: Choice) -> Configuration:
    """Hyper-Quantization's, named."""
    kinds = [kind for kind in (choice.inner, choice.outer) if kind is not None]
    name = " ".join(f"{kind.bits}{'s' if kind.symmetric else 'a'}/{kind.block_size}" for kind in kinds)
    parameters = {"inner": _plain(choice.inner), "scale_type": choice.scale_type}
    if choice.outer is not None:
        parameters["outer"] = _plain(choice.outer)
    bits = nb.SCHEMES["hyper"].bits_per_weight(**parameters)
    family = "hyper-single" if choice.outer is None else "hyper-double"
    return Configuration(f"hyper {name} {choice.scale_type}", family, bits, "hyper", tuple(parameters.items()))


def choice_of(configuration: Configuration) -> Choice:
    """The inverse of of_choice."""
    given = dict(configuration.parameters)
    outer = given.get("outer")
    return Choice(Kind(*given["inner"]), None if outer is None else Kind(*outer), given["scale_type"])


def _plain(kind: Kind) -> tuple[int, int, bool]:
    return kind.bits, kind.block_size, kind.symmetric


def _of_format(f: Format, family: str) -> Configuration:
    return Configuration(f.name, family, f.layout.bits_per_weight, f.name)


def _neighbours() -> list[Configuration]:
    found = []
    for name, scheme in nb.SCHEMES.items():
        if name == "hyper" or scheme.encode is None:
            continue
        varied = VARIED.get(name, {})
        for values in itertools.product(*varied.values()):
            parameters = dict(zip(varied, values, strict=True))
            shown = " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])
            bits = scheme.bits_per_weight(**parameters)
            found.append(Configuration(shown, "neighbours", bits, name, tuple(parameters.items())))
    return found
