"""Both models over the same chunks, compared by both rules; kept after each chunk, and gone on with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hifi_ref.commands import kept, terminal, texts
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import bos_of, logits, measures, setting
from hifi_ref.models.divergence import RULES, Compared, compared

# By rule, each array [chunks, positions].
Measured = dict[str, Compared]


def chunks_of(
    quantized: str, base: str, text: str | None, tokens: str | None, context: int, most: int | None
) -> list[list[int]]:
    """The ids of each chunk, of a text or of a file. Raises OSError, or InputError, also where the models differ."""
    if text is None:
        assert tokens is not None
        return texts.chunks_of(texts.ids_of_file(tokens), context, most, tokens)
    ids = texts.ids_of_text(quantized, text)
    if ids != texts.ids_of_text(base, text) or bos_of(quantized) != bos_of(base):
        names = f"{printable(name_of(quantized))} and {printable(name_of(base))}"
        raise InputError(f"{names} make other ids of {printable(text)}: they are different models")
    return texts.chunks_of(ids, context, most, text)


def measured(quantized: str, base: str, chunks: Sequence[list[int]], mode: str, state: str) -> Measured:
    """What an interrupted run has done is taken from ``state``."""
    bos, context = bos_of(quantized), len(chunks[0])
    ids = [bos or -1, *itertools.chain(*chunks)]
    digest = kept.digest_of([quantized, base], ids, context, f"quality {mode} {setting(mode)}")
    arrays = kept.load(state, digest)
    where = measures.scored(context)
    done = len(arrays["tool nll"]) if arrays else 0
    with terminal.progress(len(chunks), "chunks", "quality") as advance:
        advance(done)
        for chunk in chunks[done:]:
            fed = texts.fed(chunk, bos)
            z_base, z = (logits(model, fed, mode)[where] for model in (base, quantized))
            if z.shape != z_base.shape:
                sizes = f"{z.shape[1]} and {z_base.shape[1]} ids"
                raise InputError(f"the models have vocabularies of {sizes}: they are different models")
            targets = np.array(chunk[where.start + 1 : where.stop + 1])
            for rule in RULES:
                for field, values in compared(z_base, z, targets, rule, mode)._asdict().items():
                    before = arrays.get(f"{rule} {field}", np.zeros((0, len(targets)), values.dtype))
                    arrays[f"{rule} {field}"] = np.vstack([before, values])
            kept.save(state, digest, arrays)
            advance(1, f"{float(arrays['exact divergence'].mean()):.5f}")
    return {rule: Compared(*(arrays[f"{rule} {field}"] for field in Compared._fields)) for rule in RULES}


def flat(of: Compared) -> Compared:
    """All positions in a row."""
    return Compared(*(values.ravel() for values in of))
