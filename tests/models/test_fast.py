"""The fast mode says what the exact one says, within what the order of additions and the codes that it flips can do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax import numpy as jnp

import hifi_ref as hr
from hifi_ref import models
from hifi_ref.models import exact_mode, fast_mode
from hifi_ref.models.arithmetic import Matrix
from tests.models import small

LENGTH = 31
# Of the largest logit: what another order of additions may do where nothing is rounded to codes.
ORDER = 2e-4
# Nats. A flipped code moves the logits of these models, up to 200, by whole numbers; a wrong formula moves all of them.
DIVERGENCE = 0.03


def both(path: Path) -> tuple[np.ndarray, np.ndarray]:
    ids = models.tokenize(path, small.TEXT.encode(), True, False)[:LENGTH]
    return models.logits(path, ids), models.logits(path, ids, mode="fast")


def divergence(base: np.ndarray, other: np.ndarray) -> float:
    p, q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (base.astype(np.float64), other))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


@pytest.mark.parametrize("name", small.MODELS)
def test_plain_floats(tmp_path: Path, name: str) -> None:
    exact, fast = both(small.write(tmp_path / "model.gguf", name))
    assert fast.dtype == np.float32 and fast.shape == exact.shape
    np.testing.assert_allclose(fast, exact, rtol=0, atol=ORDER * np.abs(exact).max())


def test_formats_of_all_kinds(tmp_path: Path) -> None:
    assert abs(divergence(*both(small.write(tmp_path / "model.gguf", "gemma3", mixed=True)))) < DIVERGENCE


@pytest.mark.parametrize("kind", small.MIXED)
def test_activations_are_rounded(kind: str) -> None:
    """Of decoded weights alone the product would be another."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((n, 256)).astype(np.float32) for n in (11, 40))
    weight = Matrix(kind, hr.encode(kind, w, lane="numpy"), 256)
    want, got = exact_mode.product(weight, x), np.asarray(fast_mode.product(weight, jnp.asarray(x)))
    unrounded = x @ exact_mode.decoded(weight).T
    assert got.shape == want.shape and np.abs(got - want).max() < 3e-5
    assert np.abs(unrounded - want).max() > 1e-3


@pytest.mark.parametrize("fault", [{"window": None}, {"cap": 0.0}])
def test_faults_are_seen(tmp_path: Path, fault: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*arguments, **named):
        return fast_mode.attend(*arguments, **named | fault)

    monkeypatch.setattr(fast_mode, "ARITHMETIC", fast_mode.ARITHMETIC._replace(attend=attend))
    exact, fast = both(small.write(tmp_path / "model.gguf", "gemma2"))
    assert np.abs(fast - exact).max() > 2 * ORDER * np.abs(exact).max()


@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 63, 64, 65, 100, 512, 513])
def test_padding_wastes_a_fifth_at_most(tokens: int) -> None:
    padded = fast_mode._padded(tokens)
    assert padded >= tokens and (padded <= 8 or padded <= 1.25 * tokens + 8) and fast_mode._padded(padded) == padded


def test_split_over_devices() -> None:
    """Four devices, in a process of their own, say what one says, to the bit; each holds a quarter of the rows."""
    script = """
import sys, jax, numpy as np
from hifi_ref.models import fast_mode, logits
assert len(jax.devices()) == 4
shards = fast_mode._split(np.zeros((8, 144), np.uint8)).addressable_shards
assert [shard.data.shape for shard in shards] == [(2, 144)] * 4
assert fast_mode._split(np.zeros((6, 144), np.uint8)).addressable_shards[3].data.shape == (6, 144)
sys.stdout.buffer.write(logits("tests/data/model/model-F16.gguf", np.arange(40), "fast").tobytes())
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | flags, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout == models.logits("tests/data/model/model-F16.gguf", np.arange(40), "fast").tobytes()
