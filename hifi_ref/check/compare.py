"""A whole file against its source: every tensor found, compared and explained."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from typing import NamedTuple, Protocol

import numpy as np

from hifi_ref import api, exact
from hifi_ref.check import importance, reproduce
from hifi_ref.check.comparison import NOT_JUDGED, Comparison, Options, TensorResult
from hifi_ref.check.differences import add_findings
from hifi_ref.check.hashes import hash_files, source_files
from hifi_ref.check.meaning import result_of, settle
from hifi_ref.check.metadata import compare_metadata
from hifi_ref.check.resume import digest_of, load_state, save_state
from hifi_ref.formats import FORMATS, builds
from hifi_ref.lanes import choose
from hifi_ref.model_files.context import contexts
from hifi_ref.model_files.files import give_back
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, printable
from hifi_ref.model_files.imatrix import Imatrix, read_imatrix
from hifi_ref.model_files.remote import check_unchanged
from hifi_ref.model_files.remote_copy import StartProgress, local_copy
from hifi_ref.model_files.source import NotKnown, Source, SourceError, Weights, layouts, open_source
from hifi_ref.model_files.tensor_types import is_defined

# Tensors that are worked on at a time: one is read and compared while another is encoded.
AT_A_TIME = 2
# Seconds between two states on disk.
SAVE_EVERY = 2.0


class Compared(NamedTuple):
    """A tensor's result, and how many of its weights were looked at."""

    result: TensorResult
    weights: int


class Elsewhere(Protocol):
    """Other machines, named ``names`` in reports; ``compared`` gives the results of plans there as they come."""

    names: tuple[str, ...]

    def compared(
        self, paths: Sequence[str], gguf: Gguf, plans: Sequence[Plan], options: Options,
        work: Sequence[tuple[str, bool, int]],
    ) -> Iterator[Compared]: ...  # fmt: skip


class Plan(NamedTuple):
    """One tensor's work: its source, and the ways in which it may have been made."""

    gguf: Gguf
    tensor: Tensor
    weights: Weights
    ways: list[reproduce.Way]


def compare(
    files: Mapping[str, Gguf],
    gguf: Gguf,
    options: Options,
    findings: Findings,
    start_progress: StartProgress = lambda weights: lambda done, name: None,
    start_fetching: StartProgress = lambda nbytes: lambda done, name: None,
    elsewhere: Elsewhere | None = None,
) -> Comparison:
    """Compare a sound model's tensors with their source. Findings are added to ``findings``.

    ``files`` maps the path of each file to what it holds; ``gguf`` has the first's metadata and the tensors of all.
    ``elsewhere`` does the work, where it is given, and this process where not.
    Raises OSError, GgufError, SafetensorsError, SourceError or ImatrixError, each in one sentence.
    """
    if any(file.order == ">" for file in files.values()):
        raise SourceError("a big-endian file cannot be compared with its source: convert it with gguf_convert_endian")
    with ExitStack() as open_now:
        path = open_now.enter_context(local_copy(options.source, start_fetching))
        matrix = open_now.enter_context(local_copy(options.imatrix, start_fetching)) if options.imatrix else None
        source = open_source(path, gguf)
        imatrix = read_imatrix(matrix) if matrix else Imatrix({})
        pool = open_now.enter_context(ThreadPoolExecutor(1))
        made_from = (source_files(path), [matrix] if matrix else []) if options.hashed else ((), ())
        hashing = [pool.submit(hash_files, paths) for paths in made_from]
        comparison = _compare_with(source, imatrix, files, gguf, options, findings, start_progress, elsewhere)
        comparison.source_files, comparison.imatrix_files = (done.result() for done in hashing)
    if options.state and os.path.exists(options.state):
        os.unlink(options.state)
    return comparison


def _compare_with(
    source: Source,
    imatrix: Imatrix,
    files: Mapping[str, Gguf],
    gguf: Gguf,
    options: Options,
    findings: Findings,
    start_progress: StartProgress,
    elsewhere: Elsewhere | None,
) -> Comparison:
    wanted = [t for t in gguf.tensors if t.readable and re.search(options.tensors or "", t.name)]
    digest = digest_of(files, options)
    holders = {id(tensor): (path, file) for path, file in files.items() for tensor in file.tensors}
    done = load_state(options.state, digest) if options.resume else {}
    planned = [
        done.get(tensor.name) or plan_of(gguf, holders[id(tensor)][1], tensor, source, imatrix, options.profile)
        for tensor in wanted
    ]
    plans = [plan for plan in planned if isinstance(plan, Plan)]
    work = _work(plans, options.sample)
    report_done = start_progress(sum(weights for _, _, weights in work))
    if elsewhere is None:
        choose.announce(work, options.profile)
        results_of = _compared_here(gguf, plans, options, report_done)
    else:
        results_of = _reported(elsewhere.compared(list(files), gguf, plans, options, work), report_done)
    _keep(results_of, done, functools.partial(save_state, options.state, digest))
    results = [done[plan.tensor.name] if isinstance(plan, Plan) else plan for plan in planned]
    settle(results, options.imatrix is None and any(key.startswith("quantize.imatrix.") for key in gguf.metadata))
    names = {t.name for t in gguf.tensors}
    missing = [name for name in source.names if name not in names and re.search(options.tensors or "", name)]
    compared = {result.name for result in results}
    comparison = Comparison(
        options, source.form, results, missing, source.unmapped, imatrix.datasets,
        left_out=[t.name for t in gguf.tensors if t.name not in compared], elsewhere=source.elsewhere,
        coverage=importance.coverage(imatrix, gguf.tensors, results) if options.imatrix else None,
        misfits=_misfits(wanted, results, imatrix),
        encoded_on=choose.workers("encode") if elsewhere is None else elsewhere.names,
    )  # fmt: skip
    names_of = {t.name: printable(os.path.basename(holders[id(t)][0])) for t in gguf.tensors if len(files) > 1}
    add_findings(gguf, comparison, findings, names_of)
    comparison.metadata = compare_metadata(gguf, source.path, source.form, findings)
    for file in files.values():
        check_unchanged(file.data)
    return comparison


def _keep(
    results: Generator[TensorResult],
    done: dict[str, TensorResult],
    save: Callable[[dict[str, TensorResult]], None],
) -> None:
    """Put each tensor's result into ``done``, which is saved now and then, and when anything interrupts."""
    saved = time.monotonic()
    try:
        with closing(results):
            for result in results:
                done[result.name] = result
                if time.monotonic() - saved > SAVE_EVERY:
                    save(done)
                    saved = time.monotonic()
    except BaseException:
        save(done)
        raise


def _compared_here(
    gguf: Gguf, plans: list[Plan], options: Options, report_done: Callable[[int, str], object]
) -> Generator[TensorResult]:
    """Results as they come; whatever interrupts stops all work."""
    stopping = threading.Event()

    def progress(weights: int, name: str) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        report_done(weights, name)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        running = [pool.submit(compare_tensor, gguf, plan, options, progress) for plan in plans]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            stopping.set()
            for future in running:
                future.cancel()


def _reported(compared: Iterator[Compared], report_done: Callable[[int, str], object]) -> Generator[TensorResult]:
    """Those of other machines, whose progress is told tensor by tensor."""
    for result, weights in compared:
        report_done(weights, result.name)
        yield result


def plan_of(
    gguf: Gguf, file: Gguf, tensor: Tensor, source: Source, imatrix: Imatrix, profile: str
) -> Plan | TensorResult:
    """What is to be done for one tensor, of the file ``file`` of the model ``gguf``; or why it is not judged."""
    try:
        weights = source.find(tensor.name)
    except NotKnown as error:
        return TensorResult(tensor.name, NOT_JUDGED, "conversion", str(error))
    if weights is None:
        return TensorResult(tensor.name, NOT_JUDGED, "absent", "the source has no such tensor")

    def not_judged(meaning: str, why: str) -> TensorResult:
        return TensorResult(tensor.name, NOT_JUDGED, meaning, why, weights.name, weights.kind)

    if _plain(weights.shape) != _plain(tensor.shape):
        if weights.doubt:
            return not_judged("conversion", weights.doubt)
        return not_judged("shape", f"the shape is {list(tensor.shape)}, and {list(weights.shape)} in the source")
    kind = tensor.known_type.name
    if kind not in FORMATS or not is_defined(tensor.known_type) or FORMATS[kind].encode is None:
        return not_judged("format", f"there is no encoder of {kind} here")
    if profile != builds.STRICT and kind not in builds.known_formats(profile):
        return not_judged("format", f"profile {profile} is not known for {kind}")
    row = importance.row_of(imatrix, tensor)
    if FORMATS[kind].requires_weights and row is None:
        return not_judged("importance", f"{kind} needs an importance matrix")
    return Plan(file, tensor, weights, reproduce.ways_to_make(tensor, weights, row, layouts(gguf, tensor)))


def _misfits(tensors: list[Tensor], results: list[TensorResult], imatrix: Imatrix) -> dict[str, str]:
    types = {result.name: result.source_type for result in results}
    found = {t.name: importance.misfit(imatrix, t, types[t.name] or "") for t in tensors if t.shape and types[t.name]}
    return {name: why for name, why in found.items() if why is not None}


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end."""
    n = len(shape)
    while n > 1 and shape[n - 1] == 1:
        n -= 1
    return tuple(shape[:n])


def _work(plans: list[Plan], sample: int | None) -> list[tuple[str, bool, int]]:
    work = []
    for plan in plans:
        n = plan.tensor.elements
        if sample is not None:
            row = plan.tensor.shape[0]
            n = min(n, max(row, -(-sample * plan.tensor.known_type.block_size // row) * row))
        work.append((plan.tensor.known_type.name, plan.ways[0].importance is not None, n))
    return work


def compare_tensor(
    gguf: Gguf, plan: Plan, options: Options, progress: Callable[[int, str], object] = lambda weights, name: None
) -> TensorResult:
    """One tensor against its source; ``progress`` is called with the number of weights whenever some are done."""
    name, known = plan.tensor.known_type.name, contexts(gguf).get(plan.tensor.name, {})

    def encode(x: np.ndarray, row: np.ndarray | None, outliers: int | None, profile: str) -> np.ndarray:
        context = known or ({} if outliers is None else {"outliers": outliers})
        return api.encode(name, x, row, profile=profile, **context)

    def done(weights: int) -> None:
        progress(weights, plan.tensor.name)

    done(0)
    sourced = reproduce.SourcedTensor(plan.gguf, plan.tensor, plan.weights, encode, options.profile)
    try:
        tallies, way = reproduce.follow(sourced, plan.ways, options.sample, options.seed, done)
    except exact.UnknownBlocks as error:
        why = f"profile {options.profile} is not known for these weights: {error}"
        return TensorResult(plan.tensor.name, NOT_JUDGED, "format", why, plan.weights.name, plan.weights.kind)
    give_back()
    return result_of(plan.tensor, tallies.best(), way, plan.weights)
