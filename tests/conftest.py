"""What several test files share."""

from __future__ import annotations

import os
import tempfile

import jax
import pytest

from hifi_ref.formats import FORMATS, Format


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of one format stay in one process, which traces and compiles it once."""
    for item in items:
        if (name := _format_of(item)) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(name))


def _format_of(item: pytest.Item) -> str:
    """The first format among what a test is asked with, or ""."""
    asked = getattr(item, "callspec", None)
    names = [v.name if isinstance(v, Format) else v for v in (asked.params.values() if asked else ())]
    return next((name for name in names if isinstance(name, str) and name in FORMATS), "")


@pytest.fixture
def quick_compiler():
    """The interpreter for TPUs compiles one small thing after the other."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
