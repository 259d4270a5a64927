"""What smoothing gains for whole models: `python -m tools.smooth_gain MODEL.gguf ... --calibrate=FILE --text=FILE`.

Of each model in F32, and of its smoothed ones, the mean divergence from its own logits, in nats, and the change of the
perplexity, where all matrices are multiplied as W8A8 (hifi_ref/neighbours/dynamic_int8.py), or quantized to Q4_0.
Scales come from one text, figures from another. Fast mode. Models with experts are refused: their routers stay floats,
which are not told apart here.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from hifi_ref.commands import texts
from hifi_ref.models import bos_of, fast_mode, logits, measures
from hifi_ref.models.arithmetic import Matrix
from hifi_ref.models.divergence import Compared, compared, figures
from hifi_ref.models.model import nobody, open_model
from hifi_ref.models.run import forward
from hifi_ref.quantize import command as quantize
from hifi_ref.smooth import command as smooth
from hifi_ref.smooth import products

_CALIBRATE = flags.DEFINE_string("calibrate", None, "A file: what scales are made from.", required=True)
_TEXT = flags.DEFINE_string("text", None, "A file: what is scored.", required=True)
_CONTEXT = flags.DEFINE_integer("context", 128, "Ids a chunk.", lower_bound=16)
_CHUNKS = flags.DEFINE_integer("chunks", 16, "So many chunks of both.", lower_bound=2)

RECIPES = {
    "as it is": None, "alpha 0.5": (), "alpha 0.5, powers of two": ("--powers-of-two",),
    "auto for W8A8": ("--alpha=auto",), "auto for Q4_0": ("--alpha=auto", "--target=Q4_0"),
}  # fmt: skip


def in_eight_bits(path: str, ids: Sequence[int]) -> np.ndarray:
    """Logits whose matrices are all multiplied as W8A8."""

    def product(weight: Matrix, x: Any) -> np.ndarray:
        return products.product(products.W8A8, np.asarray(fast_mode.decoded(weight)), np.asarray(x))

    model = open_model(path, nobody, fast_mode.ARITHMETIC._replace(product=product))
    if any(name.endswith("ffn_gate_inp.weight") for name in model.tensors):
        raise SystemExit(f"{model.name} has experts")
    return forward(model, ids)


def in_q4_0(path: str, folder: str) -> str:
    out = f"{folder}/q4_0.gguf"
    done([path, out, "--mixture=Q4_0", "--pure", "--quiet"], quantize.main)
    return out


def smoothed(source: str, folder: str, more: Sequence[str]) -> str:
    out = f"{folder}/smooth.gguf"
    text = [f"--text={_CALIBRATE.value}", f"--context={_CONTEXT.value}", f"--chunks={_CHUNKS.value}"]
    done([source, *text, "--mode=fast", f"--out={out}", *more], smooth.main)
    return out


def done(arguments: Sequence[str], command: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        code = command(arguments)
    if code:
        raise SystemExit(f"this ended with {code}: {' '.join(arguments)}")


def cells(path: str, source: str, chunks: Sequence[list[int]], folder: str) -> list[str]:
    """Divergence from the source, and change of the perplexity: of W8A8, and of Q4_0."""
    quantized = in_q4_0(path, folder)
    where, bos = measures.scored(len(chunks[0])), bos_of(source)
    found: tuple[list[Compared], list[Compared]] = ([], [])
    for chunk in chunks:
        fed, targets = texts.fed(chunk, bos), np.array(chunk[where.start + 1 : where.stop + 1])
        base = logits(source, fed, "fast")[where]
        for z, of_kind in zip((in_eight_bits(path, fed), logits(quantized, fed, "fast")), found, strict=True):
            of_kind.append(compared(base, z[where], targets, "exact", "fast"))
    shown = []
    for of_kind in found:
        f = figures(Compared(*(np.concatenate(parts) for parts in zip(*of_kind, strict=True))))
        shown += [f"{f.divergence.value:.5f} +/- {f.divergence.uncertainty:.5f}"]
        shown += [f"{f.change.value:+.2f} +/- {f.change.uncertainty:.2f} %"]
    return shown


def main(arguments: list[str]) -> None:
    kinds = "W8A8: divergence | perplexity | Q4_0: divergence | perplexity"
    print(f"| model | smoothed | {kinds} |\n|---|---|---|---|---|---|")
    for source in arguments[1:]:
        ids = texts.ids_of_text(source, _TEXT.value)
        chunks = texts.chunks_of(ids, _CONTEXT.value, _CHUNKS.value, _TEXT.value)
        for name, more in RECIPES.items():
            with tempfile.TemporaryDirectory() as folder:
                path = source if more is None else smoothed(source, folder, more)
                print(
                    f"| {Path(source).stem} | {name} | {' | '.join(cells(path, source, chunks, folder))} |", flush=True
                )


if __name__ == "__main__":
    app.run(main)
