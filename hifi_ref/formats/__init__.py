"""Every block format, by its name. One file a format; a new one is its file and one line here, or in hifi."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from hifi_ref.formats import hifi
from hifi_ref.formats.layout import Layout

if TYPE_CHECKING:
    from hifi_ref.exact import Array

# Formats whose blocks come without a search, so that no build and no importance changes them.
WITHOUT_SEARCH = ("F32", "F16", "BF16", "Q8_0", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4")


@dataclass(frozen=True)
class Format:
    """A block format: its layout and the three operations, written once for both lanes.

    decode(blocks u8[n, type_size]) -> f32, in weight order, of any shape whose elements are n * block_size
    encode(x f32[rows, blocks, block_size], weights f32[blocks, block_size] or None)
        -> u8[rows, blocks, type_size]
    dot(w u8[rows, blocks, type_size], a u8[blocks, type_size of dot_with]) -> f32[rows]

    An operation that the format does not offer is None. ``requires_weights``: encode needs importance, as
    ggml_quantize_requires_imatrix says. ``row_scoped``: with importance a block's bytes depend on the rest of its row.
    ``outliers``: the counts of outliers per block that encode takes, by keyword; None where there is no choice.
    ``by_model_size``: encode takes model_params, billions of parameters, by keyword.
    """

    layout: Layout
    decode: Callable[..., Array]
    encode: Callable[..., Array] | None
    dot: Callable[..., Array] | None
    requires_weights: bool = False
    row_scoped: bool = False
    dialect: str = "llama.cpp"
    outliers: range | None = None
    by_model_size: bool = False

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def type_id(self) -> int | None:
        """GGUF's number of the type, in the dialect's latest state; None where it has none."""
        return self.layout.type_id

    @property
    def block_size(self) -> int:
        """Weights per block."""
        return self.layout.block_size

    @property
    def type_size(self) -> int:
        """Bytes per block."""
        return self.layout.type_size

    @property
    def uses_importance(self) -> bool:
        """Whether importance has a part in its blocks."""
        return self.name not in WITHOUT_SEARCH

    @property
    def dot_with(self) -> str | None:
        """The format that activations take in a dot product with this one."""
        return self.layout.dot_with

    def in_context(self, outliers: int | None, model_params: float | None) -> Format:
        """This format with an encode that knows how many outliers to keep, or what its model's size is.

        Raises ValueError where the format has no use for one of them, or it is out of range.
        """
        if outliers is not None and (self.outliers is None or outliers not in self.outliers):
            allowed = f"{self.outliers[0]} to {self.outliers[-1]}" if self.outliers else "no choice of"
            raise ValueError(f"outliers is {outliers}, but {self.name} has {allowed} outliers a block")
        if model_params is not None and not self.by_model_size:
            raise ValueError(f"model_params is given, but {self.name} does not depend on the model's size")
        if model_params is not None and not 0 <= model_params < float("inf"):
            raise ValueError(f"model_params is {model_params}, not a number of billions")
        return self if outliers is None and model_params is None else _bound(self, outliers, model_params)


@functools.lru_cache(maxsize=256)
def _bound(f: Format, outliers: int | None, model_params: float | None) -> Format:
    """One object for each context, so that the lanes compile it once."""
    context = {"outliers": outliers, "model_params": model_params}
    assert f.encode is not None
    given = {name: value for name, value in context.items() if value is not None}
    return replace(f, encode=functools.partial(f.encode, **given))


_FILES = """
    f32 f16 bf16
    q1_0 q2_0 q4_0 q4_1 q5_0 q5_1 q8_0 q8_1
    q2_k q3_k q4_k q5_k q6_k q8_k
    iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq4_nl iq4_xs
    tq1_0 tq2_0 mxfp4 nvfp4
""".split()


def _format(file: str, dialect: str = "llama.cpp") -> Format:
    module = import_module(f"{__name__}.{file}")
    return Format(
        layout=module.LAYOUT,
        decode=module.decode,
        encode=getattr(module, "encode", None),
        dot=getattr(module, "dot", None),
        requires_weights=getattr(module, "REQUIRES_WEIGHTS", False),
        row_scoped=getattr(module, "ROW_SCOPED", False),
        dialect=dialect,
        outliers=getattr(module, "OUTLIERS", None),
        by_model_size=getattr(module, "BY_MODEL_SIZE", False),
    )


# What llama.cpp defines, and all formats: these and those of the HIFI fork.
LLAMA_CPP: Mapping[str, Format] = MappingProxyType({f.name: f for f in map(_format, _FILES)})
HIFI: Mapping[str, Format] = MappingProxyType({f.name: f for f in (_format(f"hifi.{x}", "hifi") for x in hifi.FILES)})
FORMATS: Mapping[str, Format] = MappingProxyType({**LLAMA_CPP, **HIFI})
