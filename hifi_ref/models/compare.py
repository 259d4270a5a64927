"""Where a forward pass first leaves the release: `python -m hifi_ref.models.compare MODEL.gguf --text=FILE`.

The result of each step, a norm, a product, a rotation, attention, is looked for among the nodes of the release's own
graph (variant x64, flash attention off, K/V cache F32): one of the same operation with the same bits. The first step
that has none is where the pass leaves it. Products of experts are seen in what follows them. The release is asked on
the spot, by the package `reference` of the repository.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from hifi_ref.model_files.files import InputError, unusable
from hifi_ref.models.arithmetic import Arithmetic
from hifi_ref.models.model import open_model
from hifi_ref.models.run import MODES, arithmetic_of, forward
from hifi_ref.models.tokens.tokenize import tokenize

# The operations of ggml whose results the steps are.
OPERATIONS = {
    "decoded": "GET_ROWS", "rms_norm": "MUL", "product": "MUL_MAT", "rotate": "ROPE", "attend": "CONT",
    "softmax": "SOFT_MAX", "swiglu": "GLU", "geglu": "GLU", "capped": "SCALE",
}  # fmt: skip
SAME, DIFFERENT, UNUSABLE = 0, 1, 2
NODE = re.compile(r"\d{5} ([A-Z_]+) (.*)")


class Step(NamedTuple):
    """``name``: what was computed, behind which product; ``values``: float32[n]."""

    name: str
    operation: str
    values: np.ndarray


class Difference(NamedTuple):
    """A step that no node has the bits of: the nearest node, None where none is so large; ``differing`` numbers ``of``
    how many are others than its, by so much at most."""

    name: str
    node: str | None
    differing: int
    of: int
    largest: float


def differences(path: str, ids: Sequence[int], mode: str = "exact") -> tuple[int, list[Difference]]:
    """How many steps the pass has, and those of them that differ, in their order.

    Raises what logits does; InputError where the release is not at hand, RuntimeError where it cannot be asked.
    """
    ours = steps(path, ids, mode)
    theirs = _nodes(path, ids)
    found = []
    for step in ours:
        nodes = [
            (name, x) for name, operation, x in theirs if operation == step.operation and len(x) == len(step.values)
        ]
        if not any(np.array_equal(_bits(step.values), _bits(x)) for _, x in nodes):
            found.append(_difference(step, nodes))
    return len(ours), found


def steps(path: str, ids: Sequence[int], mode: str) -> list[Step]:
    """Every result of a pass, in its order, the logits last."""
    found: list[Step] = []
    behind, of_experts = "the embedding", False

    def observe(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
        nonlocal behind, of_experts
        behind, of_experts = name, chosen is not None

    def record(kind: str, values: Any) -> None:
        if kind != "product" or not of_experts:
            name = behind if kind == "decoded" else f"{kind} {'with' if kind == 'product' else 'behind'} {behind}"
            found.append(Step(name, OPERATIONS[kind], np.asarray(values, np.float32).reshape(-1)))

    model = open_model(path, observe, _recorded(arithmetic_of(mode), record))
    forward(model, ids)
    return found


def _recorded(arithmetic: Arithmetic, record: Callable[[str, Any], None]) -> Arithmetic:
    def recorded(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*arguments: Any, **more: Any) -> Any:
            values = function(*arguments, **more)
            record(kind, values)
            return values

        return computed

    return arithmetic._replace(**{kind: recorded(kind, getattr(arithmetic, kind)) for kind in OPERATIONS})


def _nodes(path: str, ids: Sequence[int]) -> list[tuple[str, str, np.ndarray]]:
    """Name, operation and values of the release's nodes."""
    try:
        release = import_module("reference.language_model")
    except ModuleNotFoundError:
        raise InputError(
            "the release is asked by the package reference of hifi_ref's repository: run this there"
        ) from None
    answer = release.ask([release.Question(path, list(ids), (), "all")])[0]
    parts = [(NODE.fullmatch(key), values) for key, values in answer.items()]
    return [(part[2], part[1], values.reshape(-1)) for part, values in parts if part and values.dtype == np.float32]


def _difference(step: Step, nodes: Sequence[tuple[str, np.ndarray]]) -> Difference:
    if not nodes:
        return Difference(step.name, None, len(step.values), len(step.values), float("inf"))
    largest = [float(np.abs(step.values - x).max()) for _, x in nodes]
    name, x = nodes[int(np.argmin(largest))]
    return Difference(step.name, name, int((_bits(step.values) != _bits(x)).sum()), len(x), min(largest))


def _bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint32)


# COMMAND LINE


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 each step has the bits of a node, 1 some have not, 2 what cannot be compared."""
    values = flags.FlagValues()
    flags.DEFINE_string("text", None, "FILE: what is read", flag_values=values)
    flags.DEFINE_integer("ids", 32, "N: so many ids of it", flag_values=values, lower_bound=1)
    flags.DEFINE_enum("mode", "exact", MODES, "how to compute", flag_values=values)
    try:
        paths = values(["compare", *(sys.argv[1:] if argv is None else argv)])[1:]
        if len(paths) != 1 or values.text is None:
            raise InputError("one model and --text=FILE are needed; --ids=N and --mode=exact|fast are known besides")
        ids = tokenize(paths[0], Path(values.text).read_bytes(), special=True, parse=False)[: values.ids]
        count, found = differences(paths[0], ids, values.mode)
    except OSError as error:
        return _refused(str(unusable(error)))
    except (InputError, flags.Error, RuntimeError) as error:
        return _refused(" ".join(str(error).split()))
    print("\n".join(lines(len(ids), count, found)))
    return DIFFERENT if found else SAME


def _refused(message: str) -> int:
    print(f"hifi_ref.models.compare: {message}", file=sys.stderr)
    return UNUSABLE


def lines(ids: int, count: int, found: Sequence[Difference]) -> list[str]:
    """The first difference, and the others below."""
    if not found:
        return [f"{ids} ids, {count} steps: each has the bits of a node of the release"]
    first, *others = (f"{d.name}{_of_node(d)}" for d in found)
    return [f"{ids} ids, {count} steps: the first that differs is {first}", *(f"  then {other}" for other in others)]


def _of_node(d: Difference) -> str:
    if d.node is None:
        return ", which no node of the release is like"
    return f" (node {d.node}), {d.differing} of {d.of} numbers, by at most {d.largest:.3g}"


if __name__ == "__main__":
    sys.exit(main())
