"""`python -m tools.explain_facts` writes hifi_ref/explain/facts.json: what `explain` says that takes long to compute.

Of each known bug the first golden vector that tells it from the reference, and of each format the error of the
decoded weights, relative to their root mean square: 16,384 of a normal distribution, and as many of Student's t with
3 degrees of freedom. Formats that cannot do without importance have one that is even.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import hifi_ref as hr
from golden import judge, mutants
from hifi_ref.formats import HIFI
from hifi_ref.known_bugs import BUGS, Bug
from hifi_ref.known_bugs import hifi as hifi_bugs
from hifi_ref.model_files.files import write_atomically

OUTPUT = Path(__file__).resolve().parent.parent / "hifi_ref" / "explain" / "facts.json"
SHAPE = (16, 1024)
# Students whose 3 degrees of freedom make heavy tails.
SEED = 0


def samples() -> dict[str, np.ndarray]:
    """f32[SHAPE] of each kind of weights."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    return {
        "gaussian": rng.standard_normal(SHAPE).astype(np.float32),
        "heavy tails": rng.standard_t(3, SHAPE).astype(np.float32),
    }


def error(name: str, x: np.ndarray) -> float:
    """Relative root mean square error, in three digits."""
    importance = np.ones(x.shape[1], np.float32) if hr.FORMATS[name].requires_weights else None
    decoded = hr.decode(name, hr.encode(name, x, importance, lane="numpy"), lane="numpy").astype(np.float64)
    return float(f"{np.sqrt(((decoded - x) ** 2).sum() / (x.astype(np.float64) ** 2).sum()):.3g}")


def caught(bug: Bug) -> str | None:
    """The first vector of golden/hifi that a bug of a format of the HIFI fork fails."""
    content = judge.load(bug.format, bug.operation, judge.HERE / "hifi")
    for group in content["groups"]:
        group["tests"] = [test for test in group["tests"] if "context" not in test]
    test = next(judge.failing(content, bug.run, 1), None)
    return None if test is None else test["id"]


def catches() -> Iterator[tuple[str, str]]:
    """Each bug's name, and the vector that catches it."""
    for killed in mutants.run(BUGS):
        if killed.test is not None:
            yield killed.bug.name, killed.test["id"]
    for bug in hifi_bugs.bugs():
        if (judge.HERE / "hifi" / f"{bug.format}.{bug.operation}.json").is_file() and (id := caught(bug)):
            yield bug.name, id


def facts() -> dict[str, Any]:
    """All of the file."""
    kinds = samples()
    return {
        "errors": {name: {kind: error(name, x) for kind, x in kinds.items()} for name in (*hr.FORMATS,)},
        "catches": dict(sorted(catches())),
    }


if __name__ == "__main__":
    assert set(HIFI) <= set(hr.FORMATS)
    write_atomically(OUTPUT, json.dumps(facts(), indent=1) + "\n")
