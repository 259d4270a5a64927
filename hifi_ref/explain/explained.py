"""Everything that `explain` says of a format, as data: computed from its definition, its LAYOUT and real runs."""

from __future__ import annotations

import functools
import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref.explain import effects, family, levels, places, worked
from hifi_ref.explain.byte_map import periods_of
from hifi_ref.explain.search.data import search_data
from hifi_ref.formats import FORMATS, HIFI

SCHEMA = "hifi_ref.explain/1"
# Formats of nearly the same size whose error is shown beside.
NEAR = 5


@functools.cache
def facts() -> dict[str, Any]:
    """What takes long to compute: the vectors that catch known bugs, and errors. tools/explain_facts.py writes it."""
    return json.loads((Path(__file__).parent / "facts.json").read_bytes())


def explanation(name: str) -> dict[str, Any]:
    """All that is said of a format, a key of FORMATS, as a report for programs has it."""
    f = FORMATS[name]
    work = worked.worked(name)
    found = effects.effects(name, work.block)
    return {
        "schema": SCHEMA,
        "format": name,
        **_definition(name),
        "dialect": f.dialect,
        "type_id": f.type_id,
        "block_size": f.block_size,
        "type_size": f.type_size,
        "bits_per_weight": f.layout.bits_per_weight,
        "dot_with": f.dot_with,
        "operations": [op for op in ("decode", "encode", "dot") if getattr(f, op) is not None],
        "requires_importance": f.requires_weights,
        "layout": [
            {"field": e.name, "type": e.type, "offset": f.layout.offset(e.name), "bytes": e.size, "holds": e.holds}
            for e in f.layout.fields
        ],
        "map": _map(name),
        "account": account(name),
        "levels": levels.of_codes(name),
        "steps_possible": levels.steps_possible(name),
        "reach": levels.reach(work),
        "worked": _worked(work),
        "bits": bits(name, work, found),
        "change": change(work, found),
        "search": search_data(name, work.weights, np.ones_like(work.weights) if work.importance else None),
        "errors": _errors(name),
        "family": family.family_of(name)._asdict() | {"history": family.history_of(name)},
        "mistakes": mistakes(name),
    }


# THE DEFINITION


def _definition(name: str) -> dict[str, Any]:
    """What the format's own file says: its first sentence, its formula and its prose."""
    module = import_module(f"hifi_ref.formats.{'hifi.' if name in HIFI else ''}{name.lower()}")
    page = inspect.cleandoc(str(module.__doc__))
    says, *paragraphs = page.split("\n\n")
    if len(paragraphs) == 0:
        # The LITE formats share one page.
        paragraphs = inspect.cleandoc(str(import_module("hifi_ref.formats.hifi.lite").__doc__)).split("\n\n")[1:]
    shown = [part for part in paragraphs if part.startswith("    ")]
    prose = [_flat(part) for part in paragraphs if not part.startswith(("    ", "Reference:"))]
    reference = next((_flat(part) for part in paragraphs if part.startswith("Reference:")), "")
    formula = [line.strip() for part in shown[1:] for line in part.splitlines()]
    path = str(module.__name__).replace(".", "/") + ".py"
    return {"says": _flat(says), "formula": formula, "prose": prose, "reference": reference, "source": path}


def _flat(paragraph: str) -> str:
    """One line; the items of a list each a line."""
    return "\n".join(" ".join(item.split()) for item in re.split(r"\n(?=\* )", paragraph))


# BYTES AND BITS


def _map(name: str) -> list[dict[str, Any]]:
    return [
        {
            "times": period.times,
            "stride": period.stride,
            "runs": [
                {"byte": run.byte, "size": run.size, "pieces": [piece._asdict() for piece in run.pieces]}
                for run in period.runs
            ],
        }
        for period in periods_of(name)
    ]


def account(name: str) -> list[dict[str, Any]]:
    """Where the bits go: for each kind of number how many there are, of how many bits, for how many weights each."""
    size = FORMATS[name].block_size
    rows = []
    for numbers in places.numbers_of(name):
        count, width = numbers.bits.shape
        moved = [len(weights) for weights in effects.weights_of(name, numbers)]
        rows.append(
            {
                "kind": numbers.kind,
                "numbers": count,
                "bits_each": width,
                "bits": count * width,
                "bits_per_weight": count * width / size,
                # An outlier's position can be any.
                "weights_each": 1 if numbers.kind in ("outlier at", "outlier values") else max(moved),
            }
        )
    return rows


def bits(name: str, work: worked.Worked, found: effects.Effects) -> list[dict[str, Any]]:
    """What flipping does to the worked block: for each bit of each kind of number, over all numbers of the kind.

    moves: most weights that change at once; median, most: how far the weight moves that moves most, relative to the
    root mean square of the weights; None where it becomes infinite or no number.
    """
    size = root_mean_square(work.decoded) or 1.0
    rows = []
    for numbers in places.numbers_of(name):
        for k, column in enumerate(numbers.bits.T):
            change = np.sort(found.change[column])
            middle, most = float(change[len(change) // 2]) / size, float(change[-1]) / size
            rows.append(
                {
                    "kind": numbers.kind,
                    "bit": k,
                    "moves": int(found.moved[column].sum(axis=1).max()),
                    "median": _rounded(middle),
                    "most": _rounded(most),
                }
            )
    return rows


def change(work: worked.Worked, found: effects.Effects) -> list[float | None]:
    """For each bit of the block, lowest of byte 0 first: how far the weight moves that moves most, as in `bits`."""
    return [_rounded(float(one) / (root_mean_square(work.decoded) or 1.0)) for one in found.change]


def _rounded(value: float) -> float | None:
    return float(f"{value:.3g}") if np.isfinite(value) else None


def root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64) ** 2).mean()))


# THE WORKED BLOCK


def _worked(work: worked.Worked) -> dict[str, Any]:
    error = root_mean_square(work.decoded.astype(np.float64) - work.weights)
    chosen = shown_weights(work)
    return {
        "weights": [worked.number(x) for x in work.weights],
        "importance": "one for each weight" if work.importance else None,
        "bytes": work.block.tobytes().hex(),
        "steps": [
            {"name": step.name, "formula": step.formula, "values": [worked.number(x) for x in step.values]}
            for step in work.steps
        ],
        "grid_rows": {str(row): numbers.tolist() for row, numbers in worked.rows_used(work)},
        "error": float(f"{error:.3g}"),
        "relative_error": float(f"{error / root_mean_square(work.weights):.3g}"),
        "by_hand": [{"weight": j, "lines": worked.by_hand(work, j)} for j in dict.fromkeys(chosen)],
    }


def shown_weights(work: worked.Worked) -> list[int]:
    """The weights decoded by hand: one as an example, one to try; of a HIFI format an outlier too."""
    size = FORMATS[work.name].block_size
    if size == 1:
        return [0]
    at = next((step.values for step in work.steps if step.name == "at[k]"), np.array([], int))
    return [min(37, size - 13), min(201, size - 2), *at[:1].tolist()]


# ERRORS, MISTAKES


def _errors(name: str) -> dict[str, Any]:
    """Measured errors, beside those of the formats that are nearest in size and are stored in files."""
    errors = facts()["errors"]
    stored = [n for n, f in FORMATS.items() if n not in ("Q8_1", "Q8_K") and f.encode is not None]
    own = FORMATS[name].layout.bits_per_weight
    near = sorted((n for n in stored if n != name), key=lambda n: abs(FORMATS[n].layout.bits_per_weight - own))[:NEAR]
    ordered = sorted([name, *near], key=lambda n: FORMATS[n].layout.bits_per_weight)
    return {n: {"bits_per_weight": FORMATS[n].layout.bits_per_weight, **errors[n]} for n in ordered}


def mistakes(name: str) -> list[dict[str, Any]]:
    """What implementations do wrong: known bugs, each with the vector that catches it, and where such were seen."""
    from hifi_ref.known_bugs import BUGS, KINDS
    from hifi_ref.known_bugs import hifi as of_hifi

    bugs = of_hifi.bugs() if name in HIFI else BUGS
    catches = facts()["catches"]
    return [
        {
            "operation": bug.operation,
            "kind": bug.kind,
            "says": bug.says,
            "vector": catches.get(bug.name),
            "seen": list(KINDS[bug.kind].seen) if bug.kind in KINDS else [],
        }
        for bug in bugs
        if bug.format == name
    ]
