"""NumPy for a compiled computation that must call back to it: on a thread that keeps subnormal numbers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_thread: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def keeps_subnormals() -> bool:
    """Whether float32 arithmetic on this thread keeps numbers below 2^-126."""
    tiny = np.full(4, 2.0**-120, np.float32)
    return bool((tiny * np.float32(2.0**-20) != 0).all())


def start() -> ThreadPoolExecutor:
    """XLA's callbacks run with subnormals flushed, and threads inherit that, so one is started beforehand."""
    global _thread
    with _lock:
        if _thread is None:
            _thread = ThreadPoolExecutor(1, thread_name_prefix="hifi_ref")
            if not _thread.submit(keeps_subnormals).result():
                _thread = None
                raise RuntimeError("this process flushes subnormal numbers to zero: results would be wrong")
    return _thread


def call(work: Callable[..., Any], shape: tuple[int, ...], dtype: Any, *operands: Any) -> Any:
    """work(*operands), an array of that shape and dtype, as a part of a computation that jax is tracing."""
    thread = start()
    jax = sys.modules["jax"]

    def call_back(*operands: Any) -> np.ndarray:
        return thread.submit(_quietly, work, *map(np.asarray, operands)).result()

    return jax.pure_callback(call_back, jax.ShapeDtypeStruct(shape, dtype), *operands)


def _quietly(work: Callable[..., Any], *operands: np.ndarray) -> Any:
    # Overflow and NaN are part of the definition, not something to warn of.
    with np.errstate(all="ignore"):
        return work(*operands)
