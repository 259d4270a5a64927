"""Work that is cut into parts: on all cores, or on one, where the caller's own threads already take them all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_this_thread = threading.local()


def count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_to_one() -> None:
    """From now on this thread does all parts itself."""
    _this_thread.keeps_to_one = True


def each(part: Callable[[int], None], starts: range) -> None:
    """Run part for every start, on as many threads as there are cores."""
    if len(starts) < 2 or getattr(_this_thread, "keeps_to_one", False):
        for start in starts:
            part(start)
        return
    with ThreadPoolExecutor(count()) as pool:
        for done in [pool.submit(part, start) for start in starts]:
            done.result()
