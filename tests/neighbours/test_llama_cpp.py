"""hifi_ref/neighbours/llama_cpp.py: blocks hold the values that the arrays do, and what they cannot hold is refused."""

import jax
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import neighbours as nb
from hifi_ref.neighbours import llama_cpp

RNG = np.random.default_rng(7)


def test_every_mxfp4_block_has_the_values_of_its_arrays():
    """All scales that are numbers to both, all codes."""
    scale = np.arange(255, dtype=np.uint8).reshape(5, 51)
    codes = RNG.integers(0, 256, (5, 51 * 16), dtype=np.uint8)
    stored = {"scale": scale, "codes": codes}
    blocks = llama_cpp.to_mxfp4(stored)
    ours = nb.decode("mx.fp4_e2m1", stored, shape=(5, 51 * 32))
    np.testing.assert_array_equal(hr.decode("MXFP4", blocks), ours)
    back = llama_cpp.from_mxfp4(blocks)
    np.testing.assert_array_equal(back["scale"], scale)
    np.testing.assert_array_equal(back["codes"], codes)


def test_every_nvfp4_block_has_the_values_of_its_arrays():
    scale = np.arange(127, dtype=np.uint8).repeat(4)[:500].reshape(5, 100)
    codes = RNG.integers(0, 256, (5, 800), dtype=np.uint8)
    stored = {"scale": scale, "codes": codes}
    blocks = llama_cpp.to_nvfp4(stored)
    ours = nb.decode("nvfp4", stored, shape=(5, 1600), writer="mlx")
    np.testing.assert_array_equal(hr.decode("NVFP4", blocks), ours)
    back = llama_cpp.from_nvfp4(blocks)
    np.testing.assert_array_equal(back["scale"], scale)
    np.testing.assert_array_equal(back["codes"], codes)


def test_scales_that_llama_cpp_reads_as_zero():
    blocks = np.zeros((1, 36), np.uint8)
    blocks[0, :4] = 0, 127, 128 + 5, 255
    assert llama_cpp.from_nvfp4(blocks)["scale"].tolist() == [[0, 0, 5, 0]]


def test_inside_jit():
    stored = nb.encode("mx.fp4_e2m1", RNG.standard_normal((2, 64)).astype(np.float32))
    blocks = jax.jit(llama_cpp.to_mxfp4)(stored)
    np.testing.assert_array_equal(blocks, llama_cpp.to_mxfp4(stored))
    for name, array in jax.jit(llama_cpp.from_mxfp4)(blocks).items():
        np.testing.assert_array_equal(array, stored[name])


def test_what_no_block_can_say_is_refused():
    scale, codes = np.zeros((2, 4), np.uint8), np.zeros((2, 64), np.uint8)
    scale[1, 2] = 255
    with pytest.raises(ValueError, match=r"scale\[1, 2\] is 255: it is NaN, which no MXFP4"):
        llama_cpp.to_mxfp4({"scale": scale, "codes": codes})
    with pytest.raises(ValueError, match=r"scale\[1, 2\] is 255: it is NaN or negative"):
        llama_cpp.to_nvfp4({"scale": scale, "codes": codes[:, :32]})
    with pytest.raises(ValueError, match="rows of 48 weights are no multiple of the 64"):
        llama_cpp.to_nvfp4({"scale": scale[:, :3], "codes": codes[:, :24]})
    with pytest.raises(ValueError, match=r"scale\[0\] is 255: it is 2\^128"):
        llama_cpp.from_mxfp4(np.full((1, 17), 255, np.uint8))
