"""What every compiled operation needs: the compiler's options, and operands that hide what they hold."""

from __future__ import annotations

from typing import Any

import jax

# LLVM's full unrolling of short inner loops comes before vectorisation and spoils it; level 1 leaves it out.
CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_prefer_vector_width": 512}


def opaque(*inputs: Any) -> Any:
    """Inputs that a caller's computation may hold as constants, which would lay the seals' zeros open, hidden again."""
    return jax.lax.optimization_barrier(inputs)
