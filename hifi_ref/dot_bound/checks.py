"""What has a true value: inputs of the right shape, finite weights and activations, sums that are sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api
from hifi_ref.formats import Format
from hifi_ref.lanes.checks import format_offering, partner_of

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8


def checked(
    name: str, w: UInt8[np.ndarray, "rows w_bytes"], a: UInt8[np.ndarray, "a_bytes"]
) -> tuple[Format, Format, UInt8[np.ndarray, "rows w_bytes"], UInt8[np.ndarray, "a_bytes"], int]:
    """The formats of w and a, contiguous w and a, and how many weights a row has; or raises as dot_exact says."""
    f = format_offering(name, "dot")
    partner = partner_of(f)
    for x, what, axes in ((w, "w", 2), (a, "a", 1)):
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != axes:
            raise ValueError(f"{what} must be a NumPy array of uint8 with {axes} axes")
    if w.shape[1] % f.type_size or a.size % partner.type_size:
        raise ValueError(f"{w.shape[1]} and {a.size} bytes are not whole blocks of {name} and {partner.name}")
    n, na = w.shape[1] // f.type_size * f.block_size, a.size // partner.type_size * partner.block_size
    if n != na:
        raise ValueError(f"a row of w holds {n} weights, but a holds {na} values")
    return f, partner, np.ascontiguousarray(w), np.ascontiguousarray(a), n


def finite_values(
    f: Format, blocks: UInt8[np.ndarray, "rows bytes"], first: int | None
) -> Float64[np.ndarray, "rows n"]:
    """Finite float64 weights; first is the number of the first row, None for activations."""
    values = api.decode(f.name, blocks, lane="numpy")
    finite = np.isfinite(values)
    if not finite.all():
        row, i = (int(x) for x in np.unravel_index(np.argmin(finite), finite.shape))
        place = f"a[{i}]" if first is None else f"w[{first + row}, {i}]"
        raise ValueError(f"{place} is {values[row, i]}: only finite numbers have a dot product")
    return values.astype(np.float64)


def check_activations(fields: dict[str, np.ndarray]) -> None:
    """Raise ValueError where a scale or a stored sum of the activations, taken apart, is not what it must be."""
    for name in fields.keys() & {"d", "s"}:
        finite = np.isfinite(fields[name])
        if not finite.all():
            block = int(np.argmin(finite))
            raise ValueError(f"{name} of block {block} of a is {fields[name][block]}, not a finite number")
    if "bsums" in fields:
        sums = fields["qs"].reshape(-1, 16, 16).sum(axis=-1, dtype=np.int64)
        # Where the scale is 0 the reference encoder leaves them as they were, and they do not matter.
        right = (sums == fields["bsums"]).all(axis=-1) | (fields["d"] == 0)
        if not right.all():
            raise ValueError(f"block {int(np.argmin(right))} of a has bsums that are not the sums of its codes")
