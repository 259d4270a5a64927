"""Places of a block from which activations, or signs, are taken by mistake: another order, another offset or stride."""

from __future__ import annotations

import functools

import numpy as np

from hifi_ref.known_bugs.derived.orders import orders


@functools.cache
def places(n: int) -> dict[str, np.ndarray]:
    """Says -> for each position of a block that from which the activation is taken."""
    at = np.arange(n)
    found: dict[str, np.ndarray] = {}
    for order in orders(n).values():
        found[f"Takes the activations of a block {order.says}"] = order.taken
    bits = n.bit_length() - 1
    for i in range(bits):
        run = f"runs of {1 << i} activations" if i else "neighbouring activations"
        found[f"Takes {run} for each other"] = at ^ 1 << i
        found[f"Takes the first of two {run} for both"] = at & ~(1 << i)
        found[f"Takes the second of two {run} for both"] = at | 1 << i
        for j in range(i):
            differ = (at >> i ^ at >> j) & 1
            found[f"Exchanges {run} with runs of {1 << j} within them"] = at ^ (differ << i | differ << j)
    for low in range(bits):
        for high in range(low + 2, bits + 1):
            width = high - low
            part, rest = at >> low & (1 << width) - 1, at & ~((1 << width) - 1 << low)
            up = (part << 1 | part >> width - 1) & (1 << width) - 1
            down = part >> 1 | (part & 1) << width - 1
            run = f"in each {1 << high}, {'single ones' if not low else f'runs of {1 << low}'}"
            found[f"Takes activations with neighbours apart, {run} as the first and second of pairs"] = rest | up << low
            found[f"Takes activations of pairs as halves, {run}"] = rest | down << low
            found[f"Takes activations at half the index, {run}"] = rest | part >> 1 << low
            found[f"Takes activations at twice the index, {run}"] = (rest | part << low) + (part << low)
    for i in range(1, bits + 1):
        for j in range(i):
            length, less = 1 << i, 1 << j
            says = f"Goes on by {less} activations instead of {length}"
            found[says] = at // length * less + at % length
            found[f"{says}, and takes {less} over and over"] = at // length * less + at % less
            found[f"Takes {less} activations over and over in each {length}"] = at // length * length + at % less
    for step in sorted({*range(8, n, 8), 1, 2, 4} - {n}):
        for far in (step, -step):
            says = f"Takes activations {step} places {'further on' if far > 0 else 'before'}"
            found[says] = np.where((at + far >= 0) & (at + far < n), at + far, -1)
    # What lies beyond the block is not known: no place
    different: dict[str, np.ndarray] = {}
    known = {at.tobytes()}
    for says, taken in found.items():
        taken = np.where((taken >= 0) & (taken < n), taken, at)
        if taken.tobytes() not in known:
            different[says] = taken
            known.add(taken.tobytes())
    return different
