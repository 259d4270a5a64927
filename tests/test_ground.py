"""Division and square root in whole numbers, what the canary makes of them, and the table that tells of it."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref import exact
from hifi_ref.exact import long_arithmetic
from hifi_ref.formats import FORMATS
from hifi_ref.formats.hard_inputs import same_floats
from hifi_ref.ground import command as ground
from hifi_ref.lanes import canary
from hifi_ref.lanes.jax_lane import watched

HARD = np.array(
    [0, 1, 1.5, 3, 63, 1e-45, 3e-45, 2.0**-149, 2.0**-127, 2.0**-126, 1.1754942e-38, 0.99999994, 1.0000001, 1.9999999,
     16777215, 3.4028235e38, np.inf, np.nan], np.float32,
)  # fmt: skip
# Quotients and roots next to the middle of two floats are made by going back from them.
COUNT = 1 << 16


def compiled(operation):
    return jax.jit(operation)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Special values in all pairs; any bits; subnormal results; quotients a unit beside a number or a middle."""
    rng = np.random.default_rng(0)
    special = np.concatenate([HARD, -HARD])
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    any_a, any_b = rng.integers(0, 2**32, (2, COUNT), dtype=np.uint32).view(np.float32)
    small = (rng.standard_normal(COUNT) * 2.0**-125).astype(np.float32)
    large = (rng.standard_normal(COUNT) * 2.0 ** rng.integers(-3, 25, COUNT)).astype(np.float32)
    divisor = rng.integers(1 << 23, 1 << 24, COUNT).astype(np.float64)
    middle = rng.integers(1 << 24, 1 << 25, COUNT) | 1
    beside = (divisor * middle / 2).astype(np.float32)
    return np.concatenate([a, any_a, small, beside]), np.concatenate([b, any_b, large, divisor.astype(np.float32)])


@pytest.mark.parametrize("lane", [lambda f: f, compiled], ids=["numpy", "jax"])
def test_long_division(lane):
    a, b = pairs()
    with np.errstate(all="ignore"):
        assert same_floats(np.asarray(lane(long_arithmetic.div)(a, b)), a / b).all()
        assert same_floats(np.asarray(lane(long_arithmetic.div)(b, a)), b / a).all()


@pytest.mark.parametrize("lane", [lambda f: f, compiled], ids=["numpy", "jax"])
def test_long_square_root(lane):
    a, b = pairs()
    root = np.random.default_rng(1).integers(1 << 12, 1 << 24, COUNT).astype(np.float64)
    beside = ((root + 0.5) ** 2).astype(np.float32)
    x = np.concatenate([a, b, beside, np.nextafter(beside, np.float32(0))])
    with np.errstate(all="ignore"):
        assert same_floats(np.asarray(lane(long_arithmetic.sqrt)(x)), np.sqrt(x)).all()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_any_two_numbers(a, b):
    a, b = np.array([a], np.uint32).view(np.float32), np.array([b], np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        assert same_floats(long_arithmetic.div(a, b), a / b).all()
        assert same_floats(long_arithmetic.sqrt(a), np.sqrt(a)).all()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_encoders_keep_their_bits_with_arithmetic_by_hand(name):
    """As on a back end whose division and square root are wrong."""
    f = FORMATS[name]
    x = np.random.default_rng(2).standard_normal((1, 64, f.block_size)).astype(np.float32)
    expected = f.encode(x)
    encode = canary.tracing(lambda x: watched.encode(f, x, None), frozenset({"division", "square root"}))
    observed, marked = jax.jit(encode)(x)
    assert not np.asarray(marked).any()
    assert (np.asarray(observed) == expected).all()
    text = str(jax.make_jaxpr(encode)(x))
    assert " div " not in text and " sqrt " not in text


def test_by_hand_ends_with_its_block():
    one = jax.numpy.ones(3)
    # Two functions, since jax keeps what it has traced.
    with exact.by_hand({"division"}):
        assert " div " not in str(jax.make_jaxpr(lambda a, b: exact.div(a, b))(one, one))
    assert " div " in str(jax.make_jaxpr(lambda a, b: exact.div(a, b))(one, one))


def test_the_probe_passes_by_hand_too():
    assert canary._wrong("cpu", frozenset({"division", "square root"})) == ()


def test_judge(monkeypatch):
    def wrong(platform, by_hand):
        return ("rounding", *(x for x in ("division",) if x not in by_hand))

    for cached in (canary.corrections, canary.failures):
        cached.cache_clear()
    monkeypatch.setattr(canary, "_wrong", wrong)
    found = ground.judge("elsewhere")
    assert found["division"] == "by correction" and found["rounding"] == "refused" and found["conversion"] == "exact"
    assert ground.table({"elsewhere": found}).splitlines()[2].split() == ["division", "by", "correction"]
    monkeypatch.undo()
    for cached in (canary.corrections, canary.failures):
        cached.cache_clear()


def test_subnormals_of_the_cpu():
    """XLA flushes them around its own execution."""
    found = ground.subnormals("cpu")
    assert found == {"subnormal operand": "flushed", "subnormal result": "flushed"}


@pytest.mark.parametrize(
    "operation, kernels, code",
    [("exact", (), 0), ("by correction", (), 0), ("refused", (), 1), ("exact", ("Q4_K",), 1), (None, (), 3)],
)
def test_exit_codes(monkeypatch, capsys, operation, kernels, code):
    def judge(platform):
        if operation is None:
            raise RuntimeError("no such device")
        return {"division": operation}

    monkeypatch.setattr(ground, "judge", judge)
    monkeypatch.setattr(ground, "platforms_here", lambda: ["cpu"])
    monkeypatch.setattr(ground, "wrong_kernels", lambda platform: kernels)
    assert ground.main([]) == code
    out, err = capsys.readouterr()
    if code == 3:
        assert "RuntimeError: no such device" in err and err.count("\n") == 1
    else:
        assert "subnormal result" in out and err == ""


def test_every_back_end_of_kernels_has_a_line(monkeypatch):
    monkeypatch.setattr(ground, "wrong_kernels", lambda backend: ("Q4_0",) if backend == "interpret" else ())
    heading, *lines = ground.kernel_table(["cpu"]).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["interpret", "tpu interpret", "tpu", "triton", "mosaic gpu"]
    assert lines[0].endswith("refused: Q4_0") and "refused" not in lines[1]
    assert lines[2].endswith("not on this machine") and lines[3].endswith("not on this machine")
    assert "not offered: no sums over an axis, fused multiply-adds" in lines[4]
    elsewhere = ground.kernel_table(["elsewhere"]).splitlines()[1:]
    assert [line.split() for line in elsewhere] == [line.split() for line in lines[2:]]
    assert len(ground.formats_tried("triton")) > len(ground.formats_tried("interpret")) > 8


def test_arguments_are_usage(capsys):
    for arguments, message in ((["fast"], "no argument is taken, not even 'fast'"), (["--fast"], "'fast'")):
        assert ground.main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.startswith("hifi_ref.ground: ") and err.count("\n") == 1


def test_help(capsys):
    assert ground.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: python -m hifi_ref.ground [flags]\n") and not err
    assert "\n  --kernels=False   leave out" in out


def test_the_cpu_is_exact():
    assert set(ground.judge("cpu").values()) == {"exact"}
    assert set(ground.judge("cpu")) == set(canary.OPERATIONS)
