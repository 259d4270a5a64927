"""llama.cpp's mixtures, the neighbours' rules, and the assignments of least error, at equal sizes, on one model.

    python -m tools.assignments MODEL.gguf --text=FILE [--imatrix=FILE] [--by=FILE] [--errors=FILE] [--chunks=8]

Each mixture and each rule is written, and then, for the bytes of its file, the assignment of least error: of errors as
they are, and, with --by, as they count by the model's answers on that other text. Each file is read over the first text
beside the model it was made from, by `hifi_ref.models` in its fast mode, chunks of 256. It prints a table in Markdown:
bits a weight, the sum of the tensors' errors, and the divergence, in thousandths of a nat.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hifi_ref.commands import texts
from hifi_ref.mixtures.assignments import RULES, Assignment
from hifi_ref.models import bos_of, logits, measures
from hifi_ref.models.divergence import compared
from hifi_ref.quantize.as_released import as_released
from hifi_ref.quantize.assigned import Job, Limit, assigned, by_rule, quantized
from hifi_ref.quantize.budget import bits_per_weight, file_size
from hifi_ref.quantize.importance import Importance, read_importance
from hifi_ref.quantize.options import NO_OPTIONS
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source, open_model
from hifi_ref.quantize.tensor_errors import measured
from hifi_ref.quantize.write import write

CONTEXT = 256
MIXTURES = ("Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
GUIDED = ("IQ3_M", "IQ3_XXS", "IQ2_M", "IQ2_XS")


class Reading(NamedTuple):
    """The text in chunks, and what the model itself says of each."""

    chunks: list[list[int]]
    bos: int | None
    where: slice
    of_base: list[np.ndarray]


class Judged(NamedTuple):
    """``error``: the sum over tensors; ``divergence``: its mean, in nats, and its uncertainty."""

    bits: float
    error: float
    divergence: float
    uncertainty: float


def read(path: str, text: str, context: int, count: int) -> Reading:
    chunks, bos = texts.chunks_of(texts.ids_of_text(path, text), context, count, text), bos_of(path)
    where = measures.scored(context)
    return Reading(chunks, bos, where, [logits(path, texts.fed(chunk, bos), "fast")[where] for chunk in chunks])


def judged(files: list[NewFile], source: Source, importance: Importance | None, kept: str, reading: Reading) -> Judged:
    write(files, source)
    names = quantized(source, NO_OPTIONS)
    plans = {plan.tensor.name: [plan] for file in files for plan in file.plans if plan.tensor.name in names}
    error = sum(measured(plans, source, importance, kept).values())
    own = []
    for chunk, base in zip(reading.chunks, reading.of_base, strict=True):
        z = logits(files[0].path, texts.fed(chunk, reading.bos), "fast")[reading.where]
        targets = np.array(chunk[reading.where.start + 1 : reading.where.stop + 1])
        own.append(compared(base, z, targets, "exact", "fast").divergence)
    of_all = np.concatenate(own)
    return Judged(bits_per_weight(files), error, float(of_all.mean()), float(of_all.std() / np.sqrt(of_all.size)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for flag in ("text", "imatrix", "by", "errors"):
        parser.add_argument(f"--{flag}", required=flag == "text")
    parser.add_argument("--chunks", default=8, type=int)
    given = parser.parse_args()
    source = open_model(given.model)
    importance = read_importance(given.imatrix) if given.imatrix else None
    reading = read(given.model, given.text, CONTEXT, given.chunks)
    aims = {"least error": None} | ({"by answers": given.by} if given.by else {})
    print(f"| file | bits | error | divergence | {' | '.join(f'{aim}: error | divergence' for aim in aims)} |")
    print(f"|---|---|---|---|{'---|---|' * len(aims)}")
    with tempfile.TemporaryDirectory() as folder:
        out, kept = str(Path(folder) / "made.gguf"), given.errors or str(Path(folder) / "errors")

        def job(name: str, text: str | None = None) -> Job:
            return Job(source, out, name, importance, NO_OPTIONS, kept, text)

        guided = importance is not None
        for name in (*MIXTURES, *(GUIDED if guided else ()), *(n for n in RULES if guided or n != "by-score")):
            if name in RULES:
                files = assigned(job(name), by_rule(job(name), name), Limit())
            else:
                files = as_released(source, out, name, importance)
            cells = [judged(files, source, importance, kept, reading)]
            for aim, text in aims.items():
                made = assigned(job(aim, text), Assignment(), Limit(size=file_size(files)))
                cells.append(judged(made, source, importance, kept, reading))
            first, *others = (
                [f"{j.error:.3g}", f"{1000 * j.divergence:.2f} ± {1000 * j.uncertainty:.2f}"] for j in cells
            )
            row = [name, f"{cells[0].bits:.2f}", *first, *(cell for other in others for cell in other)]
            print(f"| {' | '.join(row)} |", flush=True)
    print(json.dumps({"positions": len(reading.chunks) * len(reading.of_base[0])}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
