"""Products that decode as they go, and tables looked up in three ways."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import fused, lookups
from hifi_ref.neighbours.bitsandbytes import FP4, NF4

APART = {
    "bitsandbytes.nf4": {}, "bitsandbytes.int8": {"block_size": 256}, "mx.fp4_e2m1": {}, "mlx.affine": {}, "hyper": {},
    "compressed-tensors": {},
}  # fmt: skip
OUT, IN = 384, 512


@pytest.mark.parametrize("name", APART)
def test_the_product_is_that_of_what_is_decoded(name: str) -> None:
    rng = np.random.default_rng(0)
    x, a = (rng.standard_normal(shape).astype(np.float32) for shape in ((OUT, IN), (2, 3, IN)))
    stored = nb.encode(name, x, **APART[name])
    decoded = nb.decode(name, stored, shape=x.shape, **APART[name])
    expected = a.astype(np.float64) @ decoded.T.astype(np.float64)
    # Sums in any order
    bound = IN * 2.0**-23 * (np.abs(a) @ np.abs(decoded).T)
    found = fused.matmul(name, stored, x.shape, a, **APART[name])
    assert found.shape == (2, 3, OUT) and (abs(found - expected) <= bound).all()
    inside = jax.jit(lambda stored, a: fused.matmul(name, stored, x.shape, a, **APART[name]))
    assert (abs(np.asarray(inside(stored, a)) - expected) <= bound).all()


def test_no_decoded_matrix_is_in_memory() -> None:
    x, a = np.ones((4096, 256), np.float32), np.ones((1, 256), np.float32)
    stored = nb.encode("bitsandbytes.nf4", x)
    compiled = (
        jax.jit(lambda stored, a: fused.matmul("bitsandbytes.nf4", stored, x.shape, a)).lower(stored, a).compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < x.nbytes // 2


def test_what_has_no_such_product() -> None:
    x, a = np.ones((4, 64), np.float32), np.ones((1, 64), np.float32)
    nested = nb.encode("bitsandbytes.nf4", x, nested=True)
    with pytest.raises(ValueError, match="rows of 64 weights in bitsandbytes.nf4 are not stored apart"):
        fused.matmul("bitsandbytes.nf4", nested, x.shape, a, nested=True)
    with pytest.raises(ValueError, match="no product with weights of shape"):
        fused.matmul("bitsandbytes.nf4", nb.encode("bitsandbytes.nf4", x), x.shape, a[:, :32])
    with pytest.raises(ValueError, match="no scheme is called 'nf5'"):
        fused.matmul("nf5", nested, x.shape, a)


@pytest.mark.parametrize("way", [lookups.gather, lookups.select_tree, lookups.vectors])
@pytest.mark.parametrize("levels", [NF4, FP4])
def test_all_ways_find_the_same_level(levels: np.ndarray, way: Any) -> None:
    codes = np.arange(16, dtype=np.uint8).reshape(2, 8)
    for found in (way(levels, codes), np.asarray(jax.jit(lambda code: way(levels, code))(codes))):
        assert np.array_equal(found.view(np.uint32), levels[codes].view(np.uint32))
