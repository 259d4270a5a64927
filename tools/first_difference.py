"""Where a forward pass first leaves the release: `python -m tools.first_difference MODEL.gguf --text=FILE`.

The inputs of all products of matrices, and the logits, are compared bit by bit with those of the release's own graph
(variant x64, flash attention off, K/V cache F32), in its order. What differs first names the place: what lies between
the product before and this one. Exit code 0 where all bits are the same, 1 where some differ.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from hifi_ref import models
from hifi_ref.models.run import observed
from reference.language_model import Question, ask

_TEXT = flags.DEFINE_string("text", None, "A file: what is read.", required=True)
_IDS = flags.DEFINE_integer("ids", 32, "So many ids of it.", lower_bound=1)
_MODE = flags.DEFINE_enum("mode", "exact", models.MODES, "How to compute.")

LOGITS = "the logits"


class Difference(NamedTuple):
    """Of a product's input, or of the logits: how many numbers of how many differ, and by how much at most."""

    name: str
    count: int
    of: int
    largest: float


def differences(path: str, ids: Sequence[int], mode: str = "exact") -> list[Difference]:
    """What differs, in the order of the release's graph; nothing where all bits are the same."""
    inputs: dict[str, np.ndarray] = {}
    logits = observed(path, ids, lambda name, x, chosen: inputs.update({name: x}), mode)
    answer = ask([Question(path, ids, (), "inputs")])[0]
    theirs = {key.split(" ")[2]: answer[key] for key in sorted(answer) if " input " in key}
    pairs = [(name, inputs[name], x.reshape(inputs[name].shape)) for name, x in theirs.items() if name in inputs]
    found = [_difference(name, ours, x) for name, ours, x in [*pairs, (LOGITS, logits, answer["logits"])]]
    return [difference for difference in found if difference.count]


def _difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    differ = ours.view(np.uint32) != np.ascontiguousarray(theirs).view(np.uint32)
    return Difference(name, int(differ.sum()), differ.size, float(np.abs(ours - theirs).max()))


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise app.UsageError(f"one model is needed, but {len(arguments) - 1} paths are given")
    path = arguments[1]
    text = Path(_TEXT.value).read_bytes()
    ids = models.tokenize(path, text, special=True, parse=False)[: _IDS.value]
    found = differences(path, ids, _MODE.value)
    if not found:
        print(f"{len(ids)} ids: every bit of every input and of the logits is the release's")
        return
    first = found[0]
    what = first.name if first.name == LOGITS else f"what {first.name} is multiplied with"
    print(f"{len(ids)} ids: {what} differs first, {first.count} of {first.of} numbers, by at most {first.largest:.3g}")
    for difference in found[1:]:
        print(f"  then {difference.name}: {difference.count} of {difference.of}, by at most {difference.largest:.3g}")
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
