"""Everyone who writes blocks of a format, against the least that those blocks can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.sweep import one_by_one
from hifi_ref.sweep.configurations import Configuration
from hifi_ref.sweep.optimum.formats import FORMS, Blocks

if TYPE_CHECKING:
    from jaxtyping import Float32

# Configurations that store what a format stores, so that its least loss bounds theirs as well.
ALSO_WRITTEN = {
    "Q4_0": ("hyper 4s/32 fp16",),
    "Q4_1": ("hyper 4a/32 fp16",),
    "Q5_0": ("hyper 5s/32 fp16",),
    "Q5_1": ("hyper 5a/32 fp16",),
    "Q8_0": ("hyper 8s/32 fp16",),
    "MXFP4": tuple(f"mx.fp4_e2m1 rule={rule}" for rule in ("floor", "ceil", "even", "rceil", "modelopt", "mlx")),
    "NVFP4": ("nvfp4 writer=mlx", "nvfp4 writer=torchao-single"),
}


class Distance(NamedTuple):
    """``loss`` of an encoder and ``least`` of the format, relative to the weights; ``given``: what was not searched."""

    format: str
    encoder: str
    loss: float
    least: float
    given: str

    @property
    def ratio(self) -> float:
        return self.loss / self.least if self.least else 1.0


def distances(
    x: Float32[np.ndarray, "rows n"],
    configurations: Sequence[Configuration],
    advance: Callable[..., object] = lambda done, name="": None,
) -> list[Distance]:
    """Of each format of formats.FORMS the encoders that were asked for, llama.cpp's first, on the same weights.

    x: finite, n a multiple of 256. ``advance`` is called with 1 for each format that is done, and its name.
    """
    by_name = {c.name: c for c in configurations}
    wide = x.astype(np.float64)
    power = float(np.square(wide).sum())
    found = []
    for name, form in FORMS.items():
        written = api.encode(name, x)
        known = np.square(api.decode(name, written).astype(np.float64) - wide).reshape(-1, form.sub_block).sum(axis=1)
        blocks = written.reshape(-1, FORMATS[name].type_size)
        least = float(form.least(Blocks(wide.reshape(-1, form.sub_block), blocks, known, name)).sum())

        def distance(encoder: str, squares: float, of=(name, least, form.given)) -> Distance:
            loss, bound = (math.sqrt(min(v, squares) / power) if power else 0.0 for v in (squares, of[1]))
            return Distance(of[0], encoder, float(f"{loss:.7g}"), float(f"{bound:.7g}"), of[2])

        if name in by_name:
            found.append(distance("llama.cpp", float(known.sum())))
        for other in (by_name[other] for other in ALSO_WRITTEN.get(name, ()) if other in by_name):
            y = one_by_one.decoded(x, None, other).astype(np.float64)
            found.append(distance(other.name, float(np.square(y - wide).sum())))
        advance(1, f"the least loss of {name}")
    return found
