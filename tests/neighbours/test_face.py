"""nb.encode, nb.decode and nb.matmul: what they take, and how they refuse the rest."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import pieces

X = np.linspace(-2, 2, 256, dtype=np.float32).reshape(2, 128)


@pytest.mark.parametrize("name", [name for name, scheme in nb.SCHEMES.items() if scheme.encode])
def test_what_a_scheme_says_of_its_arrays_is_so(name):
    scheme = nb.SCHEMES[name]
    x = np.tile(X, (4, 1))
    stored = nb.encode(name, x)
    shapes = scheme.shapes(x.shape, **scheme.with_defaults({}))
    assert {key for key in shapes if not scheme.stored[key].optional} <= set(stored) <= set(shapes)
    for key, array in stored.items():
        assert array.dtype.name in scheme.stored[key].dtype.split(" or ")
        assert array.shape == tuple(shapes[key]) or scheme.stored[key].ragged
    y = nb.decode(name, stored, shape=x.shape)
    assert y.dtype == np.float32 and y.shape == x.shape
    assert np.abs(y - x).max() < 0.4
    assert scheme.bits_per_weight() > 0 and scheme.source and scheme.version


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_widened(dtype):
    x = X.astype(dtype)
    for name in ("bitsandbytes.fp4", "mx.fp6_e2m3", "nvfp4", "web-rwkv.int8"):
        wide = nb.encode(name, x.astype(np.float32))
        for key, array in nb.encode(name, x).items():
            np.testing.assert_array_equal(array, wide[key])
        assert set(nb.encode(name, jnp.asarray(x))) == set(wide)


def test_bits_per_weight():
    nf4 = nb.SCHEMES["bitsandbytes.nf4"]
    assert nf4.bits_per_weight(block_size=64) == 4.5
    assert round(nf4.bits_per_weight(block_size=64, nested=True), 3) == 4.127
    assert nb.SCHEMES["web-rwkv.int8"].bits_per_weight() == 8.25
    assert nb.SCHEMES["mx.fp6_e3m2"].bits_per_weight() == 6.25


def refused(sentence, work, *arguments, **named):
    with pytest.raises((ValueError, NotImplementedError), match=sentence):
        work(*arguments, **named)


def test_names_and_parameters():
    refused("no scheme is called 'nf4'; there are ", nb.encode, "nf4", X)
    refused("nvfp4 has no parameter 'block_size'; it has writer", nb.encode, "nvfp4", X, block_size=16)
    refused("rule of mx.int8 must be one of floor, microxcaling, not 'ceil'", nb.encode, "mx.int8", X, rule="ceil")
    refused("whole number of weights, 1 or more, not 0", nb.encode, "bitsandbytes.nf4", X, block_size=0)


def test_weights():
    refused("x must be a NumPy or jax array, not list", nb.encode, "nvfp4", [1.0])
    refused("x of nvfp4 must be float32 or float16 or bfloat16, not float64", nb.encode, "nvfp4", X.astype(np.float64))
    refused("x must hold at least one weight", nb.encode, "nvfp4", X[:0])
    refused("a row of 40 weights is no multiple of the 16", nb.encode, "nvfp4", X[:, :40])
    refused("130 weights are no multiple of the 4 of a word", nb.encode, "web-rwkv.int8", X[:, :65])


def test_stored_arrays():
    stored = nb.encode("nvfp4", X)
    refused("nvfp4 needs the array 'scale'", nb.decode, "nvfp4", {"tensor_scale": X[0, :1]}, shape=X.shape)
    refused("nvfp4 stores tensor_scale, scale, codes, not 'meta'", nb.decode, "nvfp4", stored | {"meta": X}, (2, 128))
    refused("codes of nvfp4 must be uint8, not float32", nb.decode, "nvfp4", stored | {"codes": X}, shape=X.shape)
    refused("must hold 24 values for weights of shape .2, 192., not 16", nb.decode, "nvfp4", stored, shape=(2, 192))


def test_products():
    stored = nb.encode("mx.fp4_e2m1", X)
    refused("a must be float32 or float16", nb.matmul, "mx.fp4_e2m1", stored, X.astype(np.float64))
    refused("must hold", nb.matmul, "mx.fp4_e2m1", stored, X[:, :96])
    refused("has no product of its own", nb.matmul, "bitsandbytes.int8", nb.encode("bitsandbytes.int8", X), X)
    assert nb.matmul("mx.fp4_e2m1", stored, X[None, :1]).shape == (1, 1, 2)


def test_pieces_give_what_the_whole_gives():
    """Rows that are apart, on several threads; and shapes of three axes."""
    x = np.random.default_rng(1).standard_normal((3, 160, 384)).astype(np.float32)
    cases = {"bitsandbytes.nf4": {}, "bitsandbytes.int8": {"block_size": 128}, "nvfp4": {"writer": "mlx"}}
    for name, given in (cases | {"mx.fp4_e2m1": {}, "web-rwkv.int8": {}, "web-rwkv.sf4": {}}).items():
        scheme = nb.SCHEMES[name]
        whole, parameters = scheme.encode(x, **scheme.with_defaults(given)), scheme.with_defaults(given)
        assert pieces.rows_a_piece(scheme, x.shape, parameters)
        stored = nb.encode(name, x, **given)
        for key, array in whole.items():
            np.testing.assert_array_equal(stored[key], array)
            assert stored[key].dtype == array.dtype and stored[key].shape == array.shape
        y = nb.decode(name, stored, shape=x.shape, **given)
        np.testing.assert_array_equal(y, scheme.decode(whole, x.shape, **parameters))
    nested = nb.SCHEMES["bitsandbytes.nf4"].with_defaults({"nested": True})
    assert not pieces.rows_a_piece(nb.SCHEMES["bitsandbytes.nf4"], x.shape, nested)
