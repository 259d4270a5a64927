"""Bugs of the mins in a dot product, and of the sums of activations that they are multiplied by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.known_bugs.bug import Bug, Bytes, bug, dot, each_block, in_field, partner_of
from hifi_ref.known_bugs.dot_terms import in_order, terms


def bugs() -> Iterator[Bug]:
    for name in ("Q2_K", "Q4_K", "Q5_K"):
        says = "Leaves out the mins."
        run = _with_weights(name, in_field(name, "dmin", lambda v: v * 0))
        yield bug("sign of min", name, "dot", "no mins", says, run)
        says = "Takes each sum of activations for the next sub-block."
        run = _with_activations(name, in_field("Q8_K", "bsums", lambda v: np.roll(v, 2, axis=-1)))
        yield bug("activation sums", name, "dot", "sums of the next sub-block", says, run)
    for name in ("Q4_K", "Q5_K"):
        says = "Takes the sum of 16 activations for that of 32."
        run = _with_activations(name, in_field("Q8_K", "bsums", _first_of_pairs))
        yield bug("activation sums", name, "dot", "half of the sums", says, run)
    says = "Leaves out the stored sums, and with them the shifts of the grid."
    run = _with_activations("IQ1_S", in_field("Q8_K", "bsums", lambda v: v * 0))
    yield bug("activation sums", "IQ1_S", "dot", "no sums", says, run)
    for name in ("Q4_1", "Q5_1"):
        says = "Leaves out the mins."
        yield bug("sign of min", name, "dot", "no mins", says, _with_min_of(name, lambda m, s, d: m * 0))
        says = "Multiplies the stored sum by the scale once more."
        yield bug(
            "activation sums", name, "dot", "sum scaled twice", says, _with_min_of(name, lambda m, s, d: m * s * d)
        )
        says = "Adds the mins' share after all blocks, not with each."
        yield bug("order of additions", name, "dot", "mins last", says, _mins_last(name))


def _with_activations(name: str, change: Bytes) -> Callable:
    """The right product with changed activations."""
    partner = partner_of(name).name
    return lambda w, a: dot(name, w, each_block(partner, change, a))


def _with_weights(name: str, change: Bytes) -> Callable:
    return lambda w, a: dot(name, each_block(name, change, w), a)


def _first_of_pairs(v: np.ndarray) -> np.ndarray:
    """bsums: only the first of each two."""
    v = v.reshape(*v.shape[:-1], 8, 4).copy()
    v[..., 2:] = 0
    return v.reshape(*v.shape[:-2], 32)


def _with_min_of(name: str, share: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """Q4_1 and Q5_1 with another share of the min: share(m, s, d_a), each f32."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        partner = FORMATS["Q8_1"]
        without = terms(name, each_block(name, in_field(name, "m", lambda v: v * 0), w), a)
        m = FORMATS[name].layout.unpack(w.reshape(-1, FORMATS[name].type_size))[1].reshape(len(w), -1)
        d, s, _ = partner.layout.unpack(a.reshape(-1, partner.type_size))
        with np.errstate(all="ignore"):
            return in_order(without + share(m, s, d))

    return run


def _mins_last(name: str) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        without = terms(name, each_block(name, in_field(name, "m", lambda v: v * 0), w), a)
        with np.errstate(all="ignore"):
            return in_order(np.concatenate([without, terms(name, w, a) - without], axis=1))

    return run
