"""What passes between the files of this folder: the plan of a format, and the two operands of a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hifi_ref.formats import codebooks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int8, UInt8

    from hifi_ref.exact import Array

# Weights that are taken together.
GROUP = 256


class Plan(NamedTuple):
    fields: Callable
    """The fields of the layout, uint8[rows, blocks, ...] and the like -> Weights, taken apart but in the same order."""
    codes: Callable
    """The packed codes of Weights -> uint8[groups, 8, 32, rows], 0 .. 2^bits - 1."""
    bits: tuple[int, ...]
    """Widths of the planes that a kernel gets the codes in: low bits, high bits."""
    value: int | tuple[int, ...]
    """A number taken off the codes, or what they stand for."""
    sums: str
    """"runs" of 32, "halves" of 16, "whole" groups, "lanes": the places that are equal modulo 8; or "places": none."""
    add: Callable
    largest: int
    """The most that scale * code can be, in size."""
    final: float = 1.0
    """What multiplies the result, a power of two."""
    slots: Callable | None = None
    """The fields behind those of the base -> Slots, for formats with outliers."""
    replaces: bool = False
    """Whether slots stand for the base's weights, so that these are taken off their values."""
    least: int | None = None
    """Slots whose activation has a code of at most this size are left out."""

    def numbers(self, codes):
        """Codes as signed numbers, of the codes' integer type."""
        if isinstance(self.value, int):
            return codes - codes.dtype.type(self.value) if self.value else codes
        return codebooks.look_up(self.value, codes)


class Slots(NamedTuple):
    """Of the matrix, in the order of its blocks; slots.py has the rows first and the slots last."""

    at: UInt8[Array, "groups slots rows"]
    """Positions in the group."""
    values: Float32[Array, "groups slots rows"]
    active: Bool[Array, "groups slots rows"] | None = None
    """Those in use; None: all."""
    unit: Float32[Array, "groups 1 rows"] | None = None
    """What a value of 1 is worth, where values are whole numbers."""


class Weights(NamedTuple):
    """The matrix. k scales serve a group: 1, or one for every run of 32, 64 or 128, or for every 16."""

    codes: tuple[UInt8[Array, "groups bytes rows"], ...]
    d: Float32[Array, "groups k rows"]
    scales: Int8[Array, "groups subs rows"] | None = None
    """Whole scales of the sub-blocks."""
    mins: Int8[Array, "groups subs rows"] | None = None
    """What multiplies the sums of the activations' codes."""
    m: Float32[Array, "groups k rows"] | None = None
    """The min, or the scale of the mins."""
    slots: Slots | None = None
    """Of formats with outliers, whose other fields are those of their base."""


class Activations(NamedTuple):
    q: Int8[Array, "groups 8 32 batch"]
    d: Float32[Array, "groups k batch"]
    s: Float32[Array, "groups 8 batch"] | None = None
    bsums: Any = None
