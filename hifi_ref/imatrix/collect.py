"""Importance collected chunk by chunk, kept after each, and gone on with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hifi_ref.commands import kept, terminal, texts
from hifi_ref.imatrix.mixing import Part, chunks_of_each
from hifi_ref.model_files.imatrix import Sums
from hifi_ref.model_files.imatrix_write import complete
from hifi_ref.models import Importance, bos_of, imatrix, setting


def chunks_of(model: str, parts: Sequence[Part], context: int, total: int | None) -> list[list[list[int]]]:
    """The chunks of each text, from its beginning. Raises OSError, InputError."""
    found = [texts.chunks_of(texts.ids_of_text(model, part.path), context, None, part.path) for part in parts]
    if len(parts) == 1:
        return [found[0][:total]]
    counts = chunks_of_each(parts, [len(chunks) for chunks in found], total)
    return [chunks[:count] for chunks, count in zip(found, counts, strict=True)]


def collected(model: str, chunks: Sequence[list[int]], datasets: tuple[str, ...], mode: str, state: str) -> Sums:
    """The sums over all chunks, in their order; those of an interrupted run are taken from ``state``."""
    bos, context = bos_of(model), len(chunks[0])
    digest = kept.digest_of([model], [bos or -1, *itertools.chain(*chunks)], context, f"imatrix {mode} {setting(mode)}")
    importance, done = _loaded(kept.load(state, digest))
    with terminal.progress(len(chunks), "chunks", "imatrix") as advance:
        advance(done)
        for number, chunk in enumerate(chunks[done:], done + 1):
            importance = imatrix(model, [texts.fed(chunk, bos)], mode, importance)
            kept.save(state, digest, _saved(importance, number))
            advance(1)
    sums, counts = ({name: pair[i] for name, pair in importance.items()} for i in (0, 1))
    return complete(sums, counts, datasets, context)


def _saved(importance: Importance, done: int) -> dict[str, np.ndarray]:
    sums = {f"sums {name}": pair[0] for name, pair in importance.items()}
    return sums | {f"counts {name}": pair[1] for name, pair in importance.items()} | {"done": np.array(done)}


def _loaded(state: dict[str, np.ndarray]) -> tuple[Importance, int]:
    names = [key.removeprefix("sums ") for key in state if key.startswith("sums ")]
    importance = {name: (state[f"sums {name}"], state[f"counts {name}"]) for name in names}
    return importance, int(state.get("done", 0))
