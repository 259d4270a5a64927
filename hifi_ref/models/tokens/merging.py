"""Neighbouring pieces merged, the best pair first and of equals the leftmost, until none can be."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

# How good a pair is, less being better; None where the two cannot be merged.
Rank = Callable[[bytes, bytes], float | None]


def merged(pieces: Sequence[bytes], rank: Rank) -> list[bytes]:
    """The pieces that remain. Reference: llm_tokenizer_spm_session and llm_tokenizer_bpe_session (llama.cpp v0.5.0)."""
    parts: list[bytes | None] = list(pieces)
    before, behind = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
    queue: list[tuple[float, int, int, bytes, bytes]] = []

    def consider(left: int, right: int) -> None:
        if left < 0 or right >= len(parts):
            return
        a, b = parts[left], parts[right]
        assert a is not None and b is not None
        found = rank(a, b)
        if found is not None:
            heapq.heappush(queue, (found, left, right, a, b))

    for i in range(1, len(parts)):
        consider(i - 1, i)
    while queue:
        _, left, right, a, b = heapq.heappop(queue)
        if parts[left] != a or parts[right] != b:
            continue
        parts[left], parts[right] = a + b, None
        behind[left] = behind[right]
        if behind[left] < len(parts):
            before[behind[left]] = left
        consider(before[left], left)
        consider(left, behind[left])
    return [part for part in parts if part is not None]
