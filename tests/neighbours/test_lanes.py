"""The two lanes of the schemes against each other, over all finite numbers; and which data NumPy does again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import either_lane

SHAPE = (2, 256)
CASES = [
    ("bitsandbytes.nf4", {}),
    ("bitsandbytes.nf4", {"nested": True, "block_size": 32, "nested_block_size": 8}),
    ("bitsandbytes.nf4", {"rule": "cuda"}),
    ("bitsandbytes.fp4", {"block_size": 100}),
    ("bitsandbytes.fp4", {"rule": "cuda"}),
    ("bitsandbytes.int8", {"block_size": 100}),
    ("bitsandbytes.int8", {"rule": "cuda"}),
    ("bitsandbytes.llm-int8", {"threshold": 2.0}),
    ("mx.fp8_e4m3", {"rule": "even"}),
    ("mx.fp8_e5m2", {"rule": "ceil"}),
    ("mx.fp6_e2m3", {"rule": "rceil"}),
    ("mx.fp6_e3m2", {"writer": "microxcaling", "rounding": "floor"}),
    ("mx.fp4_e2m1", {"writer": "modelopt"}),
    ("mx.fp4_e2m1", {"writer": "mlx"}),
    ("mx.int8", {}),
    ("nvfp4", {}),
    ("nvfp4", {"writer": "torchao"}),
    ("nvfp4", {"writer": "mlx"}),
    ("web-rwkv.int8", {}),
    ("web-rwkv.nf4", {}),
]
IDS = [f"{name} {' '.join(map(str, given.values()))}" for name, given in CASES]


@st.composite
def weights(draw):
    """Bit patterns of finite numbers, within a few binades or in all of them, with zeros, repeated values and ties."""
    seed = draw(st.integers(0, 2**32 - 1))
    low = draw(st.integers(0, 254))
    high = min(254, low + draw(st.sampled_from([0, 3, 12, 254])))
    rng = np.random.default_rng(seed)
    exponent = rng.integers(low, high + 1, SHAPE, np.uint32)
    mantissa = rng.integers(0, 1 << 23, SHAPE, np.uint32) & np.uint32(draw(st.sampled_from([0x7FFFFF, 0x780000, 0])))
    x = (rng.integers(0, 2, SHAPE, np.uint32) << 31 | exponent << 23 | mantissa).view(np.float32)
    return np.where(rng.random(SHAPE) < draw(st.sampled_from([0.0, 0.3])), np.float32(0), x)


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind == "i":
        # Inside jit a list of columns is filled up
        a, b = a[a >= 0] if a.ndim == 1 else a, b[b >= 0] if b.ndim == 1 else b
        return np.array_equal(a, b)
    bits = f"u{a.dtype.itemsize}"
    return bool(((a.view(bits) == b.view(bits)) | ((a != a) & (b != b))).all())


@pytest.mark.parametrize("name, parameters", CASES, ids=IDS)
def test_lanes_agree(name, parameters):
    @jax.jit
    def both(x):
        stored = nb.encode(name, x, **parameters)
        kept = {key: array for key, array in stored.items() if not nb.SCHEMES[name].stored[key].ragged}
        return stored, nb.decode(name, kept, shape=SHAPE, **parameters)

    @settings(max_examples=15, deadline=None, database=None)
    @given(weights())
    def agree(x):
        expected = nb.encode(name, x, **parameters)
        stored, y = both(x)
        for key, array in expected.items():
            assert same(array, stored[key]), key
        assert same(nb.decode(name, expected, shape=SHAPE, **parameters), y)

    agree()


@pytest.mark.parametrize("name, parameters", CASES[:1] + CASES[5:6] + CASES[12:13] + CASES[16:17] + CASES[-1:])
def test_numpy_does_again_only_what_is_faint(name, parameters, monkeypatch):
    calls = []
    in_numpy = either_lane._in_numpy
    monkeypatch.setattr(either_lane, "_in_numpy", lambda *given: calls.append(1) or in_numpy(*given))
    x = jnp.asarray(np.random.default_rng(3).standard_normal(SHAPE), np.float32)
    nb.decode(name, nb.encode(name, x, **parameters), shape=SHAPE, **parameters)
    assert not calls
    if not name.startswith("web-rwkv"):
        faint = x * np.float32(2.0**-126)
        nb.encode(name, faint, **parameters)
        assert calls


def test_products_agree():
    rng = np.random.default_rng(5)
    w, a = (rng.standard_normal(shape).astype(np.float32) for shape in ((24, 256), (3, 256)))
    for name, parameters in [("web-rwkv.int8", {"kernel": "mat"}), ("web-rwkv.sf4", {}), ("mx.fp8_e5m2", {}),
                             ("nvfp4", {}), ("bitsandbytes.llm-int8", {"threshold": 2.0})]:  # fmt: skip
        stored = nb.encode(name, w)
        kept = {key: array for key, array in stored.items() if not nb.SCHEMES[name].stored[key].ragged}
        expected = nb.matmul(name, stored, a, **parameters)
        inside = jax.jit(lambda kept, a, name=name, given=parameters: nb.matmul(name, kept, a, **given))(kept, a)
        assert same(expected, inside), name
        exact = a.astype(np.float64) @ nb.decode(name, stored, shape=w.shape).astype(np.float64).T
        assert np.abs(expected - exact).max() < 0.15 * np.abs(exact).max(), name
