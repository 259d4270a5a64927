"""What every compiled operation needs: the compiler's options, and operands that hide what they hold."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hifi_ref import exact

# LLVM's full unrolling of short inner loops comes before vectorisation and spoils it; level 1 leaves it out.
CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_prefer_vector_width": 512}
# Of work that is cut into pieces for all cores: to split each of its many short loops as well costs as much as they do.
ONE_CORE_OPTIONS = {**CPU_OPTIONS, "xla_disable_hlo_passes": "cpu-parallel-task-assigner"}


def opaque(*inputs: Any) -> Any:
    """Inputs of which nothing is known while they are compiled: arrays, or trees of them.

    A caller's computation may hold constants, or floats of which some bits are known, such as those that were binary16
    or integers; either lays the seals' zeros open. A product that ends it could also be fused with what is added to it.
    So the bits of floats pass a zero that only running tells.
    """
    held = jax.lax.optimization_barrier(inputs)
    floats = [x for x in jax.tree.leaves(held) if x.dtype == np.float32 and x.size]
    if not floats:
        return held
    zero = exact.zero_of_turns(floats[0])
    return jax.tree.map(lambda x: exact.from_bits(exact.bits(x) ^ zero) if x.dtype == np.float32 else x, held)
