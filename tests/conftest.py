"""What several test files share."""

from __future__ import annotations

import os
import tempfile

import jax
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """What one process compiles, the others of the same run need not compile again; and none takes another's core."""
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="hifi_ref-compiled-")
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    jax.config.update("jax_compilation_cache_dir", folder.name)


@pytest.fixture
def quick_compiler():
    """The interpreter for TPUs compiles one small thing after the other."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
