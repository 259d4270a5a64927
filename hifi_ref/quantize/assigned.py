"""The file of an assignment: types by tensor that a rule or the user fixes, the others chosen for the least error.

Types of llama.cpp make the file that llama-quantize writes with a --tensor-type for each tensor; with a HIFI or LITE
type among them it is a file of that dialect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import llama_quantize, rules
from hifi_ref.mixtures.assignments import BY_IMPORTANCE, CANDIDATES, OF_SHORT_ROWS, RULES, SCORED, Assignment
from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.mixtures.knapsack import Optimum, least_error
from hifi_ref.mixtures.model import architecture_of
from hifi_ref.mixtures.rows import that_fits
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.gguf_model import padded
from hifi_ref.quantize import tensor_errors
from hifi_ref.quantize.as_released import as_released, check_source
from hifi_ref.quantize.budget import file_size
from hifi_ref.quantize.choices import Chosen, size_of
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.in_formats import in_formats
from hifi_ref.quantize.options import NO_OPTIONS, Options
from hifi_ref.quantize.plan import NewFile, Plan
from hifi_ref.quantize.source import Source

# What a tensor is laid out in while nothing is chosen: its blocks fill nearly all rows.
PLAIN = "Q8_0"
NOTHING: Mapping[str, float] = MappingProxyType({})
Types = Mapping[str, str]
Make = Callable[[Types], list[NewFile]]


class Job(NamedTuple):
    """A source, where its file goes, and what decides on it.

    ``errors``: a file that keeps measured errors; ``text``: one by which errors count.
    """

    source: Source
    out: str
    name: str
    importance: Importance | None
    options: Options
    errors: str | None = None
    text: str | None = None


class Limit(NamedTuple):
    """Bytes of the files, or bits a weight of their tensors."""

    size: float | None = None
    bits: float | None = None


def assigned(job: Job, asked: Assignment, limit: Limit) -> list[NewFile]:
    """The files; where something is left to choose, the best that the limit allows. Raises OSError, InputError."""
    tensors = quantized(job.source, job.options)
    _check_patterns(job, asked)
    fixed = {name: kind for name in tensors if (kind := asked.type_of(name)) is not None}
    foreign = any(FORMATS[kind].dialect == "hifi" for kind in (*fixed.values(), *asked.candidates))
    make = _as_hifi(job) if foreign else _as_llama(job)
    for name, kind in fixed.items():
        _check_row(job, tensors[name], kind)
    free = {name: tensor for name, tensor in tensors.items() if name not in fixed}
    if not free:
        return _named(job, make(fixed))
    if limit == Limit():
        raise InputError(f"{job.name} leaves {len(free)} tensors to choose, such as {min(free)}: a target is needed")
    plans = _candidates(job, asked, free, fixed, make)
    errors = tensor_errors.measured(plans, job.source, job.importance, job.errors)
    plain = {name: own[-1].format for name, own in plans.items()}
    base, sizes, budget = _budget(job, make(fixed | plain), plans, limit)
    weights = {name: asked.weight_of(name) for name in plans}
    if job.text is not None:
        from hifi_ref.quantize import answers  # with it come the models, which take long to import

        effects = answers.effects(job.source, {n: own[0].tensor for n, own in plans.items()}, job.importance, job.text,
                                  job.errors)  # fmt: skip
        weights = {name: weight * effects[name] for name, weight in weights.items()}
    weighed = [np.array([weights[n] * errors[n, p.format] for p in own]) for n, own in plans.items()]
    found = least_error(sizes, weighed, budget)
    if found is None:
        least = base + sum(int(own.min()) for own in sizes)
        of = f"{least} bytes" if limit.size is not None else f"{8 * least / _weights(job):.4f} bits a weight"
        raise InputError(f"nothing is so small: with the smallest types it has {of}")
    chosen = {name: own[c].format for (name, own), c in zip(plans.items(), found.choice, strict=True)}
    own = {name: errors[name, kind] for name, kind in chosen.items()}
    return _named(job, make(fixed | chosen), own, _verdict(job, found))


def quantized(source: Source, options: Options) -> dict[str, Tensor]:
    """The tensors whose types are not given by llama-quantize's options, and that it quantizes."""
    architecture = architecture_of(source.whole, options.given) or ""
    types, found = options.types, {}
    for tensor in source.whole.tensors:
        kind = rules.kind_of(tensor.name)
        asked = {"output": types.output_tensor_type, "embedding": types.token_embedding_type}.get(kind)
        kept = types.leave_output_tensor and kind == "output"
        given = asked or any(re.search(pattern, tensor.name) for pattern, _ in types.overrides)
        if is_quantized(tensor.name, tensor.shape, architecture) and not kept and not given:
            found[tensor.name] = tensor
    return found


def by_rule(job: Job, name: str) -> Assignment:
    """What one of RULES gives each tensor; where its blocks do not fill a row, what llama-quantize takes in its place.

    Raises InputError where it needs importance, and there is none.
    """
    tensors = quantized(job.source, job.options)
    rows = {} if job.importance is None else job.importance.matrix.rows
    means = {tensor: float(rows[tensor].mean()) for tensor in tensors if tensor in rows}
    if name in SCORED and not means:
        raise InputError(f"--assign={name} goes by importance: --imatrix=FILE is needed")
    types = RULES[name]({name: tensor.shape for name, tensor in tensors.items()}, means)
    fitting = {name: that_fits(kind, tensors[name].shape[0]) for name, kind in types.items()}
    return Assignment(types=tuple((f"^{re.escape(name)}$", kind) for name, kind in fitting.items()))


def _check_patterns(job: Job, asked: Assignment) -> None:
    tensors = quantized(job.source, NO_OPTIONS)
    for pattern, _ in (*asked.types, *asked.weights):
        if not any(re.search(pattern, name) for name in tensors):
            raise InputError(f"{job.name}: no tensor that is quantized has a name that matches {pattern}")


def _check_row(job: Job, tensor: Tensor, kind: str) -> None:
    if tensor.shape[0] % FORMATS[kind].block_size:
        raise InputError(f"{job.name}: rows of {tensor.shape[0]} in {tensor.name} are no whole blocks of {kind}")
    if FORMATS[kind].requires_weights and not _is_guided(job, tensor):
        raise InputError(f"{job.name}: {kind} needs importance, and there is none for {tensor.name}")


def _is_guided(job: Job, tensor: Tensor) -> bool:
    return tensor_errors.columns_of(job.importance, tensor) is not None


# CANDIDATES


def _candidates(
    job: Job, asked: Assignment, free: Mapping[str, Tensor], fixed: Types, make: Make
) -> dict[str, list[Plan]]:
    """Of each tensor what may become of it, the smallest first."""
    kinds = {name: _kinds(job, tensor, asked.candidates) for name, tensor in free.items()}
    for name, own in kinds.items():
        if not own:
            known = ", ".join(asked.candidates)
            raise InputError(f"{job.name}: none of {known} can hold {name}, with rows of {free[name].shape[0]}")
    plans: dict[str, list[Plan]] = {name: [] for name in free}
    for kind in dict.fromkeys(kind for own in kinds.values() for kind in own):
        types = {name: kind if kind in own else own[0] for name, own in kinds.items()}
        for plan in (plan for file in make({**fixed, **types}) for plan in file.plans):
            if kind in kinds.get(plan.tensor.name, ()):
                plans[plan.tensor.name].append(plan)
    return {name: sorted(own, key=lambda plan: plan.nbytes) for name, own in plans.items()}


def _kinds(job: Job, tensor: Tensor, given: Sequence[str]) -> list[str]:
    """Types that can hold a tensor: of those given, or of all that are weighed, its own floats among them."""
    row, guided = tensor.shape[0], _is_guided(job, tensor)
    half = tensor.type_name if tensor.type_name in ("F16", "BF16") else "F16"
    usual = (*CANDIDATES, *(OF_SHORT_ROWS if row % 256 else ()), half)
    return [
        kind
        for kind in (given or usual)
        if row % FORMATS[kind].block_size == 0
        and (guided or not FORMATS[kind].requires_weights)
        and (guided or given or kind not in BY_IMPORTANCE)
    ]


# SIZES


def _budget(
    job: Job, files: list[NewFile], plans: Mapping[str, Sequence[Plan]], limit: Limit
) -> tuple[int, list[np.ndarray], int]:
    """Bytes beside the candidates, sizes of these, and bytes that are left for them."""
    laid = {plan.tensor.name: plan.nbytes for file in files for plan in file.plans}
    if limit.size is not None:
        step = job.source.ggufs[0].alignment
        sizes = [np.array([padded(plan.nbytes, step) for plan in own], np.int64) for own in plans.values()]
        base = int(file_size(files)) - sum(padded(laid[name], step) for name in plans)
        return base, sizes, int(limit.size) - base
    assert limit.bits is not None
    sizes = [np.array([plan.nbytes for plan in own], np.int64) for own in plans.values()]
    base = sum(laid.values()) - sum(laid[name] for name in plans)
    return base, sizes, int(limit.bits * _weights(job) / 8) - base


# FILES


def _as_llama(job: Job) -> Make:
    check_source(job.source)

    def make(types: Types) -> list[NewFile]:
        options = job.options.with_types(types)
        return as_released(job.source, job.out, _file_type(job, types), job.importance, options)

    return make


def _as_hifi(job: Job) -> Make:
    def make(types: Types) -> list[NewFile]:
        chosen = Chosen(
            job.name,
            lambda tensor: types.get(tensor.name, tensor.type_name),
            {"model_params": size_of(job.source.whole)},
        )
        return [in_formats(job.source, job.out, lambda gguf: chosen, job.importance, job.options.allow_requantize)]

    return make


def _file_type(job: Job, types: Types) -> str:
    """The file type that is named after the type of most weights; it is stated in general.file_type."""
    elements = {tensor.name: tensor.elements for tensor in job.source.whole.tensors}
    weights = Counter[str]()
    for name, kind in types.items():
        weights[kind] += elements[name]
    named = {llama_quantize.default_type(name): name for name in reversed(llama_quantize.file_types())}
    known = [kind for kind, _ in weights.most_common() if kind in named and FORMATS[kind].block_size > 1]
    return named[known[0] if known else PLAIN]


def _named(job: Job, files: list[NewFile], errors: Mapping[str, float] = NOTHING, notes: str = "") -> list[NewFile]:
    last = len(files) - 1
    return [
        file._replace(name=job.name, errors=errors, notes=notes if i == last else "") for i, file in enumerate(files)
    ]


def _weights(job: Job) -> int:
    return sum(tensor.elements for tensor in job.source.whole.tensors)


def _verdict(job: Job, found: Optimum) -> str:
    gap = (found.error - found.bound) / found.error if found.error else 0.0
    what = "error" if job.text is None else "expected divergence, nats:"
    best = "no assignment of this size has less" if found.is_least else "whether another has less is not known"
    return f"{job.name}: {what} {found.error:.6g}, at least {found.bound:.6g} (gap {gap:.2%}); {best}\n"
