"""What several test files share."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture
def quick_compiler():
    """The interpreter for TPUs compiles one small thing after the other."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
