"""Every choice of a type held against the release's own: `python -m tests.mixtures.asked [--count=N] [--seed=N]`.

For each of the release's architectures so many models are drawn, and each is asked about under every file type, with
and without importance, with options drawn as well. It prints what differs, and the counts; exit code 1 where any does.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hifi_ref.loading.tables import architectures
from hifi_ref.mixtures import model as model_of
from hifi_ref.mixtures.llama_quantize import Options, Refused, choose, file_types
from hifi_ref.model_files.gguf_file import open_gguf
from reference.quantizer import Answer, Question, chosen_types
from tests.loading.models import TYPES, Model
from tests.mixtures import models

# No code for gptj, and more of their metadata must agree than drawn models give: the release loads none of these.
NOT_LOADED = {"gptj", "hrm_text", "hy_v4"}
OTHER_TYPES = ("Q8_0", "Q4_K", "IQ4_NL", "F16", "Q6_K", "IQ2_S", "BF16", "Q1_0", "Q2_0", "NVFP4", "MXFP4", "Q2_K")
PATTERNS = (
    "attn_v",
    r"blk\.[02]\.",
    "ffn_(up|down)",
    "token_embd",
    "output",
    r"blk\.\d+\.attn_k\.weight$",
    "exps",
    ".*",
)


class Case(NamedTuple):
    """One model under one file type."""

    path: Path
    model: Model
    file_type: str
    importance: bool
    options: Options


class Outcome(NamedTuple):
    """How many types were compared, how often both refuse, and what differs, in sentences."""

    types: int
    refusals: int
    differences: list[str]


def drawn_options(draw: random.Random) -> Options:
    """Mostly none."""

    def now_and_then() -> str | None:
        return draw.choice(OTHER_TYPES) if draw.random() < 0.1 else None

    overrides = tuple((draw.choice(PATTERNS), draw.choice(OTHER_TYPES)) for _ in range(draw.choice((0, 0, 0, 1, 2))))
    flags = [draw.random() < 0.1 for _ in range(3)]
    return Options(flags[0], flags[1], now_and_then(), now_and_then(), overrides, flags[2])


def cases(folder: Path, draw: random.Random, names: list[str], count: int, each: list[str]) -> Iterator[Case]:
    """``count`` models of each architecture, under each of these file types."""
    for name in names:
        for i in range(count):
            model = models.drawn(draw, name)
            path = model.write(folder / f"{name}-{i}.gguf")
            for file_type in each:
                yield Case(path, model, file_type, draw.random() < 0.5, drawn_options(draw))


def question(case: Case) -> Question:
    options = case.options
    params = {"pure": options.pure, "quantize_output_tensor": not options.leave_output_tensor}
    params["keep_split"] = options.keep_split
    for field in ("output_tensor_type", "token_embedding_type"):
        asked = getattr(options, field)
        params |= {field: TYPES[asked][0]} if asked else {}
    overrides = [(pattern, TYPES[kind][0]) for pattern, kind in options.overrides]
    return Question(str(case.path), file_types()[case.file_type], case.importance, params, overrides)


def ours(case: Case) -> Answer:
    """What the room mixtures answers."""
    gguf = open_gguf(case.path)
    shapes = {tensor.name: tensor.shape for tensor in gguf.tensors}
    try:
        chosen = choose(case.file_type, model_of.read(gguf), shapes, case.importance, case.options)
    except Refused as refused:
        return Answer({}, str(refused))
    return Answer({name: kind or case.model.tensors[name][1] for name, kind in chosen.items()})


def compared(asked: list[Case]) -> Outcome:
    """Ask the release and the room, in this order."""
    types, refusals, differences = 0, 0, []
    for case, theirs in zip(asked, chosen_types(map(question, asked)), strict=True):
        own = ours(case)
        what = f"{case.path.name} {case.file_type} importance={case.importance} {case.options}"
        if bool(own.problem) != bool(theirs.problem):
            differences.append(f"{what}: {own.problem or 'no problem'!r}, the release: {theirs.problem or 'none'!r}")
        elif list(own.types) != list(theirs.types):
            differences.append(f"{what}: tensors in another order")
        else:
            types, refusals = types + len(own.types), refusals + bool(own.problem)
            differences += [f"{what}: {name} {own.types[name]}, the release: {kind}"
                            for name, kind in theirs.types.items() if own.types[name] != kind]  # fmt: skip
    return Outcome(types, refusals, differences)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    draw, total, wrong = random.Random(given.seed), Counter[str](), 0
    for name in sorted(architectures() - NOT_LOADED):
        with tempfile.TemporaryDirectory() as folder:
            asked = list(cases(Path(folder), draw, [name], given.count, sorted(file_types())))
            found = compared(asked)
        wrong += len(found.differences)
        total += Counter(architectures=1, questions=len(asked), refusals=found.refusals, types=found.types)
        print("".join(f"{line}\n" for line in found.differences[:10]), end="")
    print(f"{wrong} differ; {', '.join(f'{n} {what}' for what, n in total.items())}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
