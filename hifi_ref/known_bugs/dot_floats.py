"""Bugs of the dot products of whole floats: summed in less than binary64, multiplied in binary16."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.exact import f32
from hifi_ref.formats import FORMATS
from hifi_ref.known_bugs.bug import Bug, bug, decode
from hifi_ref.known_bugs.dot_terms import in_order


def bugs() -> Iterator[Bug]:
    for name in ("F32", "F16", "BF16"):
        for title, says, lanes in (
            ("sum in binary32", "Adds in binary32, not in binary64.", 1),
            ("eight lanes", "Adds every eighth product, then the eight sums, in binary32.", 8),
        ):
            yield bug("order of additions", name, "dot", title, says, _float_sum(name, lanes))
        says = "Rounds products to binary16."
        yield bug("half precision", name, "dot", "products in f16", says, _products_in_half(name))


def _products(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    f = FORMATS[name]
    values = decode(name, w.reshape(-1, f.type_size)).reshape(len(w), -1)
    with np.errstate(all="ignore"):
        return values * decode(name, a.reshape(-1, f.type_size)).reshape(-1)


def _float_sum(name: str, lanes: int) -> Callable:
    """Sums in binary32, in so many lanes that are added last."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        products = _products(name, w, a)
        with np.errstate(all="ignore"):
            by_lane = products.reshape(len(w), -1, lanes)
            total = by_lane[:, 0] * 0
            for i in range(by_lane.shape[1]):
                total = total + by_lane[:, i]
            return in_order(total)

    return run


def _products_in_half(name: str) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return in_order(f32(_products(name, w, a).astype(np.float16)))

    return run
