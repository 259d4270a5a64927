"""Super weights kept: a tensor that loses one gets the smallest type that keeps them all.

HIFI formats keep the largest weights of a block in outlier slots; where a file has such formats they are tried too, and
else the types of llama.cpp with more bits. What counts is the weight as it is decoded again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Tensor, printable
from hifi_ref.models import tokenize
from hifi_ref.models.super_weights import KEPT, TEXT, by_spikes
from hifi_ref.quantize import tensor_errors
from hifi_ref.quantize.choices import size_of
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.plan import NewFile, Plan, share_of
from hifi_ref.quantize.source import Source

HIGHER = ("Q4_0", "IQ4_NL", "IQ4_XS", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0", "F16")
WITH_SLOTS = ("Q3_K_HIFI", "Q4_K_HIFI", "Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8")


class Place(NamedTuple):
    """One weight; ``matrix``: the number of the expert, 0 where there is one."""

    tensor: str
    matrix: int
    row: int
    column: int


def find(source: Source) -> list[Place]:
    """In one pass of the source itself. Raises InputError where it cannot be computed."""
    path = source.paths[0]
    return [Place(*w[:4]) for w in by_spikes(path, tokenize(path, TEXT, special=True, parse=False))]


def read(path: str, source: Source) -> list[Place]:
    """Those that `quality --super-weights --json=FILE` wrote. Raises OSError, or InputError in one sentence."""
    shown, shapes = printable(path), {tensor.name: tensor.shape for tensor in source.whole.tensors}
    try:
        listed = json.loads(Path(path).read_bytes())["weights"]
        places = [Place(w["tensor"], *(w[key] for key in Place._fields[1:])) for w in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{shown} is no list of super weights, as quality --super-weights --json writes it") from None
    for place in places:
        shape = shapes.get(place.tensor) if isinstance(place.tensor, str) else None
        if shape is None:
            raise InputError(f"{shown}: {source.name} has no tensor {printable(str(place.tensor))}")
        limits = (*shape[2:], 1)[0], shape[1] if len(shape) > 1 else 1, shape[0]
        if any(type(at) is not int or not 0 <= at < n for at, n in zip(place[1:], limits, strict=True)):
            raise InputError(f"{shown}: {list(place[1:])} is no place in {place.tensor}, whose shape is {list(shape)}")
    return places


# Files made anew, with these types of these tensors.
Make = Callable[[Mapping[str, str]], list[NewFile]]


def protected(make: Make, source: Source, importance: Importance | None, places: Iterable[Place]) -> list[NewFile]:
    """The files of ``make``, each super weight kept; their notes say what that costs and gains. Raises InputError."""
    of_tensor: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        of_tensor[place.tensor].append(place)
    before = make({})
    plans = {plan.tensor.name: plan for file in before for plan in file.plans}
    slots = any(FORMATS[p.format].outliers for p in plans.values() if p.format in FORMATS)
    kinds = sorted((*HIGHER, *(WITH_SLOTS if slots else ())), key=lambda kind: FORMATS[kind].layout.bits_per_weight)
    lost = {name: own for name, own in of_tensor.items() if not _keeps(plans[name], own, source)}
    higher = {name: next((p for p in _higher(plans[name], kinds, source, importance) if _keeps(p, own, source)), None)
              for name, own in lost.items()}  # fmt: skip
    raised = {name: plan.format for name, plan in higher.items() if plan is not None}
    after = make(raised) if raised else before
    count = sum(map(len, of_tensor.values()))
    lines = f"super weights: {count}, of which {count - sum(map(len, lost.values()))} are kept without more\n"
    for name, own in lost.items():
        lines += _line(plans[name], higher[name], own, source, importance)
    return [*after[:-1], after[-1]._replace(notes=after[-1].notes + lines)]


def _higher(plan: Plan, kinds: Sequence[str], source: Source, importance: Importance | None) -> Iterator[Plan]:
    """The same tensor in types of more bits, the fewest first."""
    bits, row = 8 * plan.nbytes / plan.tensor.elements, plan.tensor.shape[0]
    for kind in kinds:
        f = FORMATS[kind]
        if row % f.block_size == 0 and f.layout.bits_per_weight > bits:
            context = {"model_params": size_of(source.whole)} if f.by_model_size else {}
            own = share_of(importance, plan.tensor, plan.tensor.name, kind)
            yield plan._replace(format=kind, context=context, importance=own)


def _keeps(plan: Plan, places: Sequence[Place], source: Source) -> bool:
    return plan.is_copied or _worst(plan, places, source) <= KEPT


def _worst(plan: Plan, places: Sequence[Place], source: Source) -> float:
    """The largest error of these weights, relative to each."""
    if plan.is_copied:
        return 0.0
    weights, tensor, worst = source.find(plan.tensor.name), plan.tensor, 0.0
    assert weights is not None
    for place in places:
        x = weights.rows(np.array([place.matrix * _rows(tensor) + place.row]))
        own = None
        if plan.importance is not None:
            own = plan.importance[place.matrix if len(plan.importance) > 1 else 0]
        y = np.asarray(api.decode(plan.format, api.encode(plan.format, x, own, **plan.context))).reshape(-1)
        was = float(x[0, place.column])
        worst = max(worst, abs(float(y[place.column]) - was) / abs(was) if was else 0.0)
    return worst


def _rows(tensor: Tensor) -> int:
    return tensor.shape[1] if len(tensor.shape) > 1 else 1


def _line(
    before: Plan, after: Plan | None, places: Sequence[Place], source: Source, importance: Importance | None
) -> str:
    name, was = before.tensor.name, _worst(before, places, source)
    if after is None:
        return f"{name}: {before.format} changes a super weight by {was:.2%}, and no type can take its place\n"
    own: dict[str, Any] = {name: [before, after]}
    errors = tensor_errors.measured(own, source, importance)
    now, more = _worst(after, places, source), after.nbytes - before.nbytes
    return (
        f"{name}: {before.format} -> {after.format} keeps {len(places)} super weight{'s' if len(places) > 1 else ''}:"
        f" changed by {was:.2%} before, {now:.2%} now; {more} bytes more, error of the tensor"
        f" {errors[name, before.format]:.3g} -> {errors[name, after.format]:.3g}\n"
    )
