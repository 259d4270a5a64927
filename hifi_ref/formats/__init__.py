"""Every block format, by llama.cpp's name. One file a format; a new one is its file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

from hifi_ref.layout import Layout


@dataclass(frozen=True)
class Format:
    """A block format: its layout and the three operations, written once for both lanes.

    decode(blocks u8[n, type_size]) -> f32, in weight order, of any shape whose elements are n * block_size
    encode(x f32[rows, blocks, block_size], weights f32[blocks, block_size] or None)
        -> (u8[rows, blocks, type_size], bool[rows, blocks]): the blocks, and where they are clear of underflow
    dot(w u8[rows, blocks, type_size], a u8[blocks, type_size of dot_with]) -> f32[rows]
    dot_clear(w, a) -> bool or bool[rows]: where dot is clear of underflow; None where it always is

    An operation that the format does not offer is None. ``requires_weights``: encode needs importance, as
    ggml_quantize_requires_imatrix says. ``row_scoped``: with importance a block's bytes depend on the rest of its row.
    """

    layout: Layout
    decode: Callable
    encode: Callable | None
    dot: Callable | None
    dot_clear: Callable | None
    requires_weights: bool = False
    row_scoped: bool = False

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def type_id(self) -> int:
        """GGUF's number of the type."""
        return self.layout.type_id

    @property
    def block_size(self) -> int:
        """Weights a block."""
        return self.layout.block_size

    @property
    def type_size(self) -> int:
        """Bytes a block."""
        return self.layout.type_size

    @property
    def dot_with(self) -> str | None:
        """The format that activations take in a dot product with this one."""
        return self.layout.dot_with


_FILES = """
    f32 f16 bf16
    q1_0 q2_0 q4_0 q4_1 q5_0 q5_1 q8_0 q8_1
    q2_k q3_k q4_k q5_k q6_k q8_k
    iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq4_nl iq4_xs
    tq1_0 tq2_0 mxfp4 nvfp4
""".split()


def _format(file: str) -> Format:
    module = import_module(f"{__name__}.{file}")
    dot_clear = getattr(module, "dot_clear", None)
    if dot_clear is None and module.LAYOUT.dot_with == "Q8_K":
        dot_clear = import_module(f"{__name__}.q8_k").dot_clear
    return Format(
        layout=module.LAYOUT,
        decode=module.decode,
        encode=getattr(module, "encode", None),
        dot=getattr(module, "dot", None),
        dot_clear=dot_clear,
        requires_weights=getattr(module, "REQUIRES_WEIGHTS", False),
        row_scoped=getattr(module, "ROW_SCOPED", False),
    )


FORMATS: Mapping[str, Format] = MappingProxyType({f.name: f for f in map(_format, _FILES)})
