"""The annotations of shapes and dtypes are true: every format runs with each of them checked."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_annotations_are_true(lane: str) -> None:
    """In a process of its own, since annotations are checked from the first import of what they stand in."""
    words = [sys.executable, "-m", "tests.typed", lane]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stdout + done.stderr
