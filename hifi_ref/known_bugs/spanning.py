"""Bugs that show in the second block of a row, or in the second row: strides, and what stays behind or runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.known_bugs.bug import Bug, Bytes, bug, decode, dot, encode, partner_of
from hifi_ref.known_bugs.rounding import NO_IMPORTANCE

KIND = "stride"
# Bytes that a wrong stride is too short.
SLIP = 2


def bugs() -> Iterator[Bug]:
    for name, f in LLAMA_CPP.items():
        if f.block_size > 1:
            for title, says, change in _misreadings(name):
                for operation, run in _operations(name, change).items():
                    if getattr(f, operation) is not None:
                        yield _bug(name, operation, title, says, run)
            if f.encode is not None and name not in NO_IMPORTANCE:
                yield from _of_importance(name)
        if f.dot is not None:
            says = "Goes on with the activations where a row ends, and begins them not anew."
            yield _bug(name, "dot", "activations run on", says, _activations_run_on(name))


def _bug(name: str, operation: str, title: str, says: str, run: Callable) -> Bug:
    return bug(KIND, name, operation, title, says, run)._replace(spans=True)


def _misreadings(name: str) -> Iterator[tuple[str, str, Bytes]]:
    """Changes of the blocks of a row, u8[n, type_size]."""
    layout = FORMATS[name].layout

    def every_second(blocks: np.ndarray) -> np.ndarray:
        blocks = blocks.copy()
        blocks[1::2] = blocks[: len(blocks) // 2 * 2 : 2]
        return blocks

    def stride(blocks: np.ndarray) -> np.ndarray:
        at = np.arange(len(blocks))[:, None] * (layout.type_size - SLIP) + np.arange(layout.type_size)
        return blocks.reshape(-1)[at]

    def first_scale(blocks: np.ndarray) -> np.ndarray:
        blocks = blocks.copy()
        blocks[:, layout.span(layout.fields[scales[0]].name)] = blocks[0, layout.span(layout.fields[scales[0]].name)]
        return blocks

    yield "every second block", "Takes every second block for the one before it.", every_second
    yield "stride", f"Steps to the next block by {SLIP} bytes too few.", stride
    scales = [i for i, field in enumerate(layout.fields) if field.dtype in ("f16", "f32")]
    if scales:
        yield "first scale", "Keeps the scale of a row's first block for all.", first_scale


def _operations(name: str, change: Bytes) -> dict[str, Callable]:
    def by_row(rows: np.ndarray) -> np.ndarray:
        return np.stack([change(row.reshape(-1, FORMATS[name].type_size)).reshape(-1) for row in rows])

    return {
        "decode": lambda blocks: decode(name, change(blocks)),
        "encode": lambda x, weights: by_row(encode(name, x, weights)),
        "dot": lambda w, a: dot(name, by_row(w), a),
    }


def _of_importance(name: str) -> Iterator[Bug]:
    n = FORMATS[name].block_size

    def of_first_block(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return encode(name, x, None if weights is None else np.resize(weights[:n], weights.shape))

    def of_first_row(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        if weights is None or len(x) == 1:
            return encode(name, x, weights)
        even = np.ones(x.shape[1], np.float32) if FORMATS[name].requires_weights else None
        return np.concatenate([encode(name, x[:1], weights), encode(name, x[1:], even)])

    says = "Takes the importance of a row's first block for all of its blocks."
    yield _bug(name, "encode", "importance of the first block", says, of_first_block)
    yield _bug(
        name, "encode", "importance of the first row", "Uses the importance for the first row alone.", of_first_row
    )


def _activations_run_on(name: str) -> Callable:
    g = partner_of(name)

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        blocks = a.reshape(-1, g.type_size)
        # Behind the end it finds the beginning again.
        shifted = (np.roll(blocks, -i, axis=0).reshape(-1) for i in range(len(w)))
        return np.concatenate([dot(name, row[None], part) for row, part in zip(w, shifted, strict=True)])

    return run
