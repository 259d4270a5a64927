"""What a system's file says of each of its schemes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hifi_ref.exact import Array

    Stored = Mapping[str, Array]
    Shape = tuple[int, ...]


class StoredArray(NamedTuple):
    """One of the arrays that a scheme stores."""

    dtype: str
    """NumPy's name of it; several, with "or" between, where it is the weights' own, or follows from a parameter."""
    holds: str
    """And its shape in words."""
    only_with: str = ""
    """The parameter without which it is not there; "" for none."""
    ragged: bool = False
    """Its length follows from values, and nothing else needs it. In jax.jit it is as long as it may be, with -1."""
    optional: bool = False
    """decode does without it, or with another one in its place."""


class Parameter(NamedTuple):
    """A keyword of encode, decode and matmul. Each of these takes all of them and uses what it needs."""

    default: Any
    says: str
    choices: tuple[Any, ...] = ()
    """All that it may be; () where the scheme itself judges."""
    array: bool = False
    """It is an array, or None: encode gets those given in a dict behind x, and nothing else gets them."""


@dataclass(frozen=True)
class Scheme:
    """A way to store weights as one system stores them."""

    name: str
    """``system.scheme``, or the system alone where it has one scheme."""
    stored: Mapping[str, StoredArray]
    parameters: Mapping[str, Parameter]
    source: str
    """The files of the system that define it."""
    version: str
    """What was run, and gave the bits that the tests hold."""
    shapes: Callable[..., Mapping[str, Shape]]
    """(shape of the weights, **parameters) -> the shape of each stored array; ValueError where it cannot be stored."""
    encode: Callable[..., dict[str, Array]] | None
    """(x f32[...], **parameters) -> what is stored."""
    decode: Callable[..., Array]
    """(stored, shape, **parameters) -> f32[shape]. The arrays have the shapes that ``shapes`` names."""
    bits: Callable[..., float]
    """(**parameters) -> bits a weight of a tensor without short blocks, whatever belongs to the tensor not counted."""
    matmul: Callable[..., Array] | None = None
    """(stored, a, **parameters) -> a times the transposed weights, where the system defines it."""
    takes: tuple[str, ...] = ("float32", "float16", "bfloat16")
    """Dtypes of x. Others than float32 are widened before encode sees them,"""
    widens: bool = True
    """but not where this is False: what is stored depends on the dtype."""
    finite: bool = False
    """NaN and infinities are refused: what the system does with them is not known."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of parameters, as other systems call them."""
    keeps_faint: tuple[str, ...] = ()
    """Of "encode", "decode", "matmul" those to whose text for jax faint inputs are no harm, or are marked by it."""
    rows_apart: Callable[..., bool] = lambda length, **parameters: False
    """(length of a row, **parameters) -> whether rows are stored as if each were alone, one array after the other."""

    def with_defaults(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters. ValueError for one that the scheme does not have, or a value that it may not take."""
        parameters = {self.aliases.get(name, name): _hashable(value) for name, value in parameters.items()}
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{self.name} has no parameter {name!r}; it has {known}")
            choices = self.parameters[name].choices
            if choices and value not in choices:
                raise ValueError(f"{name} of {self.name} must be one of {', '.join(map(str, choices))}, not {value!r}")
        return {name: parameters.get(name, each.default) for name, each in self.parameters.items()}

    def bits_per_weight(self, **parameters: Any) -> float:
        """Bits a weight of a tensor that has no short blocks; what is stored once a tensor is not counted."""
        return float(self.bits(**self.with_defaults(parameters)))

    def rows_of(self, stored: Stored, length: int, parameters: Mapping[str, Any]) -> int:
        """How many rows of that length the codes are of."""
        in_one = math.prod(self.shapes((1, length), **parameters)["codes"])
        return math.prod(stored["codes"].shape) // in_one if "codes" in stored else 0

    def checked(self, stored: Stored, shape: Shape, parameters: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays in the shapes that weights of this shape ask for. ValueError where one is missing or misfit."""
        shapes = self.shapes(shape, **parameters)
        for name in stored:
            if name not in self.stored:
                raise ValueError(f"{self.name} stores {', '.join(self.stored)}, not {name!r}")
        result: dict[str, Array] = {}
        for name, wanted in shapes.items():
            if self.stored[name].ragged:
                result |= {name: stored[name]} if name in stored else {}
                continue
            if name not in stored and self.stored[name].optional:
                continue
            if name not in stored:
                raise ValueError(f"{self.name} needs the array {name!r} for weights of shape {tuple(shape)}")
            array, dtype = stored[name], self.stored[name].dtype
            if str(array.dtype) not in dtype.split(" or "):
                raise ValueError(f"{name} of {self.name} must be {dtype}, not {array.dtype}")
            if math.prod(array.shape) != math.prod(wanted):
                raise ValueError(
                    f"{name} of {self.name} must hold {math.prod(wanted)} values for weights of shape {tuple(shape)}, "
                    f"not {math.prod(array.shape)}"
                )
            result[name] = array.reshape(wanted)
        return result


def _hashable(value: Any) -> Any:
    """A parameter that is a mapping, as a tuple of its items."""
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value
