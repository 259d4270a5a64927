"""Pieces of tensors made on the nodes of a Ray cluster: the same function on the same rows, so the same bytes.

Every node must have this package, and the source's files at the same path: a node that has another version of either
says so. What a node that is lost had in work is made again on another.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hifi_ref
from hifi_ref.commands import cluster
from hifi_ref.lanes import choose
from hifi_ref.quantize.journal import NotWritten
from hifi_ref.quantize.plan import Plan
from hifi_ref.quantize.source import Source, open_model
from hifi_ref.quantize.write import Piece, Task, Work, made


class Job(NamedTuple):
    """What all pieces share: the source's path, what is to be encoded, and what a node must find as it is here."""

    path: str
    work: Work
    seen: tuple[str, ...]


class RayPool:
    """A Pool whose pieces are Ray's tasks; a tensor's plans are sent once."""

    def __init__(self, ray: Any, source: Source, work: Work) -> None:
        self._ray, self._job = ray, ray.put(Job(source.paths[0], tuple(work), _seen(source)))
        self._run = cluster.task(ray, _made)
        self._task: Task | None = None
        self._plans: Any = None
        self.at_once = max(1, int(ray.cluster_resources().get("CPU", 1))) + 1

    def submit(self, task: Task, first: int, stop: int) -> Callable[[], list[Piece]]:
        if task is not self._task:
            self._task, self._plans = task, self._ray.put(task.plans)
        pending = self._run.remote(self._job, self._plans, first, stop)
        return lambda: self._result(pending)

    def _result(self, pending: Any) -> list[Piece]:
        try:
            with cluster.asking(self._ray):
                return self._ray.get(pending)
        except cluster.LostError as error:
            raise NotWritten(str(error)) from None

    def close(self) -> None:
        """What is still in work is of no use; the cluster goes on without it."""


def _made(job: Job, plans: Sequence[Plan], first: int, stop: int) -> list[Piece]:
    """On a node. Raises NotWritten where it does not have what was planned for."""
    source = _opened(job)
    tensor = plans[0].tensor
    return made(Task(tensor, source.holder(tensor), source.find(tensor.name), list(plans), []), first, stop)


@functools.lru_cache(maxsize=1)
def _opened(job: Job) -> Source:
    source = open_model(job.path)
    if _seen(source) != job.seen:
        raise NotWritten(f"{source.name}: a node has another file there, or another version of hifi_ref")
    choose.announce(job.work)
    return source


def _seen(source: Source) -> tuple[str, ...]:
    """This package's version, and of each file its size and the SHA-256 of all that stands before its data."""
    files = [f"{len(g.data)} {hashlib.sha256(g.data[: g.data_start]).hexdigest()}" for g in source.ggufs]
    return (hifi_ref.__version__, *files)
