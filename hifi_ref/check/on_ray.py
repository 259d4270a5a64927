"""Tensors compared on the nodes of a Ray cluster, each whole on one core: the same function, so the same results.

Every node must have this package, and the model's, the source's and the matrix's files at the same paths: a node that
finds others there says so.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hifi_ref
from hifi_ref.check.compare import Compared, Plan, compare_tensor, plan_of
from hifi_ref.check.comparison import Options, TensorResult
from hifi_ref.check.hashes import source_files
from hifi_ref.check.look import check_model
from hifi_ref.commands import cluster
from hifi_ref.lanes import choose
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import Gguf
from hifi_ref.model_files.imatrix import Imatrix, read_imatrix
from hifi_ref.model_files.models import ModelFiles
from hifi_ref.model_files.source import Source, SourceError, open_source

# Of each file its size and so many bytes of its beginning are held against what a node has.
BEGINNING = 1 << 20


class Job(NamedTuple):
    """What all tensors share: paths, what is to be compared how, and what a node must find as it is here."""

    paths: tuple[str, ...]
    dialect: str
    options: Options
    work: tuple[tuple[str, bool, int], ...]
    seen: tuple[str, ...]


class Nodes:
    """Those of a cluster, as `compare` takes them."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        working = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        # As reports call them: those that there are at the beginning.
        self.names: tuple[str, ...] = (f"{working} node{'s' if working != 1 else ''} of a Ray cluster",)

    def compared(
        self, paths: Sequence[str], gguf: Gguf, plans: Sequence[Plan], options: Options,
        work: Sequence[tuple[str, bool, int]],
    ) -> Iterator[Compared]:  # fmt: skip
        """Each tensor's result, with its number of weights, as they come. Raises InputError as a node does."""
        job = self._ray.put(Job(tuple(paths), gguf.dialect, options, tuple(work), _seen(paths, options)))
        run = cluster.task(self._ray, _compared)
        # The longest first, so that none is left for the end.
        first = sorted(zip(plans, work, strict=True), key=lambda one: -one[1][2])
        waiting = {run.remote(job, plan.tensor.name): weights for plan, (_, _, weights) in first}
        while waiting:
            (done,), _ = self._ray.wait(list(waiting), num_returns=1)
            try:
                with cluster.asking(self._ray):
                    yield Compared(self._ray.get(done), waiting.pop(done))
            except cluster.LostError as error:
                raise InputError(str(error)) from None


class _Opened(NamedTuple):
    gguf: Gguf
    holders: dict[str, Gguf]
    source: Source
    imatrix: Imatrix


def _compared(job: Job, name: str) -> TensorResult:
    """On a node."""
    opened = _open(job)
    tensor = next(tensor for tensor in opened.gguf.tensors if tensor.name == name)
    plan = plan_of(opened.gguf, opened.holders[name], tensor, opened.source, opened.imatrix, job.options.profile)
    assert isinstance(plan, Plan)
    return compare_tensor(opened.gguf, plan, job.options)


@functools.lru_cache(maxsize=1)
def _open(job: Job) -> _Opened:
    if _seen(job.paths, job.options) != job.seen:
        raise SourceError(f"{name_of(job.paths[0])}: a node has other files there, or another version of hifi_ref")
    report = check_model(ModelFiles(list(job.paths)), dialect=job.dialect, payload=False)
    source = open_source(job.options.source, report.gguf)
    imatrix = read_imatrix(job.options.imatrix) if job.options.imatrix else Imatrix({})
    choose.announce(job.work, job.options.profile)
    holders = {tensor.name: part.gguf for part in report.parts for tensor in part.gguf.tensors}
    return _Opened(report.gguf, holders, source, imatrix)


def _seen(paths: Sequence[str], options: Options) -> tuple[str, ...]:
    """This package's version, and the size and the beginning of every file."""
    matrix = [options.imatrix] if options.imatrix else []
    names = [*paths, *map(str, source_files(Path(options.source))), *matrix]
    return (hifi_ref.__version__, *map(_beginning, names))


def _beginning(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return f"{os.path.getsize(path)} {hashlib.sha256(file.read(BEGINNING)).hexdigest()}"
    except OSError as error:
        return str(error.strerror)
