"""The list of a model's super weights, and what another file of the model makes of them, as text and for programs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from hifi_ref.commands import provenance, texts
from hifi_ref.model_files.files import InputError
from hifi_ref.models import bos_of, tokenize
from hifi_ref.models.super_weights import KEPT, TEXT, SuperWeight, by_spikes, largest

SCHEMA = "hifi_ref.super_weights/1"
SPIKES, LARGEST = RULES = ("spikes", "largest")


class SuperWeights(NamedTuple):
    """``model``: the name of the file they were found in; ``changes``: of each in ``quantized``, None without one."""

    model: str
    rule: str
    weights: list[SuperWeight]
    quantized: str | None = None
    changes: list[float] | None = None


def found(path: str, rule: str, text: str | None, context: int, mode: str) -> list[SuperWeight]:
    """By a pass over the text's first ids, or one of its own, or by the coarse rule. Raises OSError, InputError."""
    if rule == LARGEST:
        return largest(path)
    own = texts.ids_of_text(path, text) if text else tokenize(path, TEXT, special=True, parse=False)
    bos = bos_of(path)
    ids = own if bos is None or own[:1] == [bos] else [bos, *own]
    if not ids:
        raise InputError(f"{text} is empty, so no pass shows anything")
    return by_spikes(path, ids[:context], mode)


def to_text(s: SuperWeights) -> str:
    lines = _by_spikes(s) if s.rule == SPIKES else _largest(s)
    some = "super weight" if len(s.weights) == 1 else "super weights"
    what = some if s.rule == SPIKES else "weights that are the 0.01 % largest of their matrices"
    kept = "" if s.changes is None else f"; {s.quantized} keeps {_kept(s.changes)} of them within {KEPT:.0%}"
    return "".join(f"{line}\n" for line in [*lines, f"{s.model}: {len(s.weights)} {what}{kept}"])


def _kept(own: list[float]) -> int:
    return sum(change <= KEPT for change in own)


def _by_spikes(s: SuperWeights) -> list[str]:
    lines = []
    for i, w in enumerate(s.weights):
        expert = f"matrix {w.matrix}, " if w.matrix else ""
        change = "" if s.changes is None else f"; changed by {s.changes[i]:.2%}"
        lines.append(
            f"{w.tensor}: {expert}row {w.row}, column {w.column}: {w.value:.6g} times {w.input:.6g} is {w.share:.1%} of"
            f" an output of {w.output:.6g}, {w.times:.0f} times the layer's median{change}"
        )
    return lines


def _largest(s: SuperWeights) -> list[str]:
    places = defaultdict(list)
    for i, w in enumerate(s.weights):
        places[w.tensor].append(i)
    if s.changes is None:
        return [f"{name}: {len(own)}" for name, own in places.items()]
    return [f"{name}: {len(own)}, kept {_kept([s.changes[i] for i in own])}" for name, own in places.items()]


def to_json(s: SuperWeights) -> dict[str, Any]:
    """As super_weights.schema.json says."""
    weights = [{key: value for key, value in w._asdict().items() if value is not None} for w in s.weights]
    if s.changes is not None:
        weights = [w | {"change": change} for w, change in zip(weights, s.changes, strict=True)]
    head = {"schema": SCHEMA, "date": provenance.date(), "versions": provenance.versions()}
    own = {"quantized": s.quantized, "kept": _kept(s.changes)} if s.changes is not None else {}
    return head | {"model": s.model, "rule": s.rule} | own | {"weights": weights}
