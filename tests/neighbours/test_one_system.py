"""Systems with one scheme each: Hyper-Quantization, GPTQ, AWQ, compressed-tensors, HQQ, MLX affine, FP8 in tiles."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import bit_stream, fp8, hyper, pieces

SHAPE = (32, 64)
OUTER = {"bits": 6, "block_size": 8, "symmetric": False}
CASES = [
    ("hyper", {"bits": 7, "symmetric": False, "scale_type": "fp8", "group_last": False}),
    ("hyper", {"bits": 8, "scale_type": "bf16"}),
    ("hyper", {"bits": 2, "block_size": 8, "symmetric": False, "outer": OUTER}),
    ("gptq", {"bits": 3, "group_size": 32}),
    ("awq", {"group_size": 32}),
    ("compressed-tensors", {"bits": 8, "group_size": 32, "symmetric": False}),
    ("hqq", {"bits": 3, "axis": 0}),
    ("mlx.affine", {"bits": 6, "group_size": 32}),
    ("fp8.block", {"block_size": 24}),
    ("fp8.block", {"scale_type": "ue8m0"}),
]
IDS = [f"{name} {' '.join(map(str, parameters.values()))}" for name, parameters in CASES]


@st.composite
def weights(draw):
    """Bit patterns of finite numbers, within a few binades or in all of them, with zeros and ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = draw(st.integers(0, 254))
    high = min(254, low + draw(st.sampled_from([0, 3, 12, 254])))
    mantissa = rng.integers(0, 1 << 23, SHAPE, np.uint32) & np.uint32(draw(st.sampled_from([0x7FFFFF, 0x780000, 0])))
    exponent = rng.integers(low, high + 1, SHAPE, np.uint32)
    x = (rng.integers(0, 2, SHAPE, np.uint32) << 31 | exponent << 23 | mantissa).view(np.float32)
    return np.where(rng.random(SHAPE) < draw(st.sampled_from([0.0, 0.3])), x * 0, x)


def assert_same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    bits = f"u{a.dtype.itemsize}"
    assert ((a.view(bits) == b.view(bits)) | ((a != a) & (b != b))).all(), np.flatnonzero(a != b)[:9]


@pytest.mark.parametrize("name, parameters", CASES, ids=IDS)
def test_lanes_agree(name, parameters):
    there = jax.jit(lambda x: nb.encode(name, x, **parameters))
    back = jax.jit(lambda stored: nb.decode(name, stored, SHAPE, **parameters))

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(weights())
    def check(x):
        stored = nb.encode(name, x, **parameters)
        for key, array in there(jnp.asarray(x)).items():
            assert_same(array, stored[key])
        y = nb.decode(name, stored, SHAPE, **parameters)
        assert_same(back({key: jnp.asarray(array) for key, array in stored.items()}), y)

    check()


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_stream_of_bits_holds_what_was_put_in(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 77)).astype(np.uint8)
    words = bit_stream.pack(codes, bits)
    assert words.shape == (3, bit_stream.words(77, bits)) and words.dtype == np.uint32
    assert np.array_equal(bit_stream.unpack(words, bits, 77), codes)
    whole = int.from_bytes(words[1].astype("<u4").tobytes(), "little")
    assert [whole >> i * bits & (1 << bits) - 1 for i in range(77)] == codes[1].tolist()


def test_ceil_log2_is_that_of_a_rounded_logarithm():
    x = (np.float32(2) ** np.arange(-126, 128, dtype=np.float32))[:, None].view(np.uint32) + np.arange(
        64, dtype=np.uint32
    )
    x = x.view(np.float32)
    rounded = np.log2(x.astype(np.longdouble)).astype(np.float32)
    assert np.array_equal(fp8.ceil_log2(x), np.ceil(rounded).astype(np.int32))
    # Above 2^4 the next number's logarithm is 4 again
    assert fp8.ceil_log2(np.nextafter(np.float32(16), np.float32(17))[None])[0] == 4


def test_versions_of_gptq():
    x = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    both = nb.encode("gptq", x, bits=4, group_size=32)
    assert set(both) == {"qweight", "scales", "qzeros_v1", "qzeros_v2"}
    first, second = (nb.encode("gptq", x, bits=4, group_size=32, version=v) for v in ("v1", 2))
    assert_same(first["qzeros"], both["qzeros_v1"])
    assert_same(second["qzeros"], both["qzeros_v2"])
    y = nb.decode("gptq", both, x.shape, bits=4, group_size=32)
    assert_same(nb.decode("gptq", first, x.shape, bits=4, group_size=32, version=1), y)
    with pytest.raises(ValueError, match="version must say"):
        nb.decode("gptq", first, x.shape, bits=4, group_size=32)
    with pytest.raises(ValueError, match="no measured definition"):
        nb.encode("gptq", x, bits=3, group_size=32, version=1)
    # An order of inputs: those of a group lie anywhere
    order = np.arange(64)[::-1] // 32
    turned = nb.decode("gptq", both | {"g_idx": order.astype(np.int32)}, x.shape, bits=4, group_size=32)
    assert np.array_equal(turned[:, :32] == y[:, :32], np.zeros((32, 32), bool)) or (turned != y).any()


def test_halves_have_arithmetic_of_their_own():
    x = np.random.default_rng(1).standard_normal((8, 64))
    for dtype in (np.float16, ml_dtypes.bfloat16):
        stored = nb.encode("mlx.affine", x.astype(dtype))
        assert stored["scales"].dtype == stored["biases"].dtype == dtype
        y = nb.decode("mlx.affine", stored, x.shape)
        assert_same(y, y.astype(dtype).astype(np.float32))
        inside = jax.jit(lambda a: nb.encode("mlx.affine", a))(jnp.asarray(x.astype(dtype)))
        for key, array in stored.items():
            assert_same(inside[key], array)


def test_names_that_other_systems_use():
    x = np.random.default_rng(2).standard_normal((8, 128)).astype(np.float32)
    for name, usual, other in (
        ("hqq", {"bits": 4, "group_size": 64}, {"nbits": 4, "block_size": 64}),
        ("compressed-tensors", {"bits": 8}, {"num_bits": 8}),
        ("fp8.block", {"scale_type": "ue8m0"}, {"scale_fmt": "ue8m0"}),
    ):
        first, second = nb.encode(name, x, **usual), nb.encode(name, x, **other)
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_double_quantization_by_either_spelling():
    x = np.random.default_rng(3).standard_normal((2, 128)).astype(np.float32)
    inner = {"bits": 3, "block_size": 8, "symmetric": False}
    stored = nb.encode("hyper", x, **inner, outer=OUTER)
    assert_same(nb.encode("hyper", x, inner=inner, outer=(6, 8, False))["bytes"], stored["bytes"])
    assert stored["bytes"].shape[0] == 4
    assert nb.SCHEMES["hyper"].bits_per_weight(**inner, outer=OUTER) == 8 * stored["bytes"].size / x.size


def test_losses():
    x = np.random.default_rng(4).standard_normal((2, 64)).astype(np.float32)
    y = nb.decode("hyper", nb.encode("hyper", x), x.shape)
    assert 0 < hyper.loss(x, y, 32) < hyper.loss(x, y * 0, 32)
    assert np.isnan(hyper.loss_as_coded(x, y, 64)) and not np.isnan(hyper.loss(x, y, 64))


X = np.ones((8, 64), np.float32)


@pytest.mark.parametrize(
    "name, x, parameters, sentence",
    [
        ("hyper", X, {"bits": 9}, "bits is 9"),
        ("hyper", X, {"block_size": 12}, "no multiple of 8"),
        ("hyper", X, {"block_size": 128}, "no whole number of blocks of 128"),
        ("hyper", X, {"outer": {"width": 3}}, "is not bits, block_size and symmetric"),
        ("hyper", X, {"scale_type": "fp32"}, "must be one of fp16, bf16, fp8"),
        ("gptq", X, {"group_size": 48}, "no whole number of groups of 48"),
        ("gptq", X[0], {"group_size": 32}, "must be a matrix"),
        ("gptq", X, {"group_size": 32, "scale": np.ones((8, 2), np.float32)}, "scale and zero"),
        ("gptq", X, {"group_size": 32, "scale": X, "zero": X}, "scale must hold 16 values"),
        ("awq", X[:4], {"group_size": 32}, "eight outputs share a word"),
        ("awq", X, {"bits": 3}, "must be one of 4"),
        ("compressed-tensors", X * np.nan, {"group_size": 32}, "only finite values"),
        ("compressed-tensors", X.astype(np.float16), {}, "must be float32"),
        ("hqq", X, {"optimize": True}, "HQQ's search"),
        ("hqq", X[:1, :63], {}, "no whole number of groups"),
        ("mlx.affine", X, {"bits": 7}, "must be one of 2, 3, 4, 5, 6, 8"),
        ("mlx.affine", X, {"group_size": 128}, "no whole number of groups"),
        ("fp8.block", X * np.inf, {}, "only finite values"),
        ("fp8.block", X, {"block_size": 0}, "block_size is 0"),
    ],
)
def test_what_cannot_be_stored_is_refused(name, x, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        nb.encode(name, x, **parameters)


@pytest.mark.parametrize(
    "name, parameters, dtype",
    [
        ("hyper", {"bits": 5, "symmetric": False, "outer": OUTER}, np.float32),
        ("mlx.affine", {"bits": 3}, np.float16),
        ("compressed-tensors", {}, np.float32),
    ],
)
def test_pieces_give_what_the_whole_gives(name, parameters, dtype):
    x = np.random.default_rng(5).standard_normal((256, 1024)).astype(dtype)
    scheme, given = nb.SCHEMES[name], nb.SCHEMES[name].with_defaults(parameters)
    assert pieces.rows_a_piece(scheme, x.shape, given)
    stored, whole = nb.encode(name, x, **parameters), scheme.encode(x, **given)
    assert set(stored) == set(whole)
    for key, array in whole.items():
        assert_same(stored[key], array)
    assert_same(nb.decode(name, stored, x.shape, **parameters), scheme.decode(whole, x.shape, **given))
