"""The files written: each tensor is read once, in pieces, and encoded once for all files that want the same of it.

A few pieces are in work at a time, one a core, while those that are ready are written in their order.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from hifi_ref import api, exact
from hifi_ref.formats import FORMATS
from hifi_ref.lanes import choose, cores
from hifi_ref.model_files.files import InputError, give_back, release, share_heaps
from hifi_ref.model_files.gguf_file import Gguf, Tensor
from hifi_ref.model_files.weights import Weights
from hifi_ref.quantize.journal import NotWritten, Part, check_space, job_of
from hifi_ref.quantize.plan import FLOATS, NewFile, Plan
from hifi_ref.quantize.source import Source

# Weights that are encoded in one go.
PIECE = 1 << 21
# Bytes that are used again for the next pieces.
KEPT = 1 << 25
# Of a float that is no number all bits of the exponent are set.
EXPONENT = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
# Up to so large a weight, 2^14, no format's scale overflows.
HARMLESS = {"F32": 0x46800000, "F16": 0x7400, "BF16": 0x4680}

Progress = Callable[..., object]
# What becomes of some rows: contiguous bytes.
Piece = bytes | np.ndarray
# Of each tensor that is encoded its format, whether with importance, and how many weights.
Work = Sequence[tuple[str, bool, int]]


class Task(NamedTuple):
    """One tensor, and all that becomes of it: each plan, with the parts it goes to and the tensor's number there."""

    tensor: Tensor
    gguf: Gguf
    weights: Weights | None
    plans: list[Plan]
    places: list[list[tuple[Part, int]]]

    @property
    def row(self) -> int:
        return self.tensor.shape[0] if self.tensor.shape else 1

    @property
    def rows(self) -> int:
        return self.tensor.elements // self.row if self.tensor.elements else 0


class Pool(Protocol):
    """Who makes pieces: so many are in work ``at_once``; ``submit`` returns what waits for a piece."""

    at_once: int

    def submit(self, task: Task, first: int, stop: int) -> Callable[[], list[Piece]]: ...

    def close(self) -> None: ...


def write(
    files: Sequence[NewFile],
    source: Source,
    progress: Progress = lambda n, name="": None,
    pool_for: Callable[[Work], Pool] | None = None,
) -> None:
    """Write files that are made of one source, each whole or not at all.

    Interrupted, or where a disk fills up, OUT.part and its journal stay, and the same call goes on with them. Where a
    weight cannot be quantized nothing stays. Raises InputError in one sentence.
    """
    paths = [os.path.realpath(file.path) for file in files]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path} would be written twice")
        if any(os.path.exists(path) and os.path.samefile(path, own) for own in source.paths):
            raise InputError(f"{path} is the source itself")
    check_space(files)
    parts: list[Part] = []
    try:
        for file in files:
            parts.append(Part(file, job_of(file, source)))
        tasks = _tasks(parts, source)
        planned = {plan.tensor.name: plan.tensor.elements for file in files for plan in file.plans}
        progress(sum(planned.values()) - sum(task.tensor.elements for task in tasks))
        _write_tensors(tasks, progress, pool_for or _Threads)
    except NotWritten as error:
        kept = [part.path for part in parts if part.done]
        for part in parts:
            (part.close if part.done else part.discard)()
        hint = f"; what is done is kept in {kept[0]}, and the same command goes on with it" if kept else ""
        raise InputError(f"{error}{hint}") from None
    except InputError:
        for part in parts:
            part.discard()
        raise
    except BaseException:
        for part in parts:
            part.close()
        raise
    for part in parts:
        part.replace()


def kind_of(plan: Plan) -> tuple:
    """Files that want the same of a tensor share what is made."""
    return plan.tensor.name, plan.format, tuple(plan.context.items()), plan.importance is None


def _tasks(parts: list[Part], source: Source) -> list[Task]:
    tasks: dict[str, Task] = {}
    kinds: dict[tuple, int] = {}
    for part in parts:
        for i, plan in enumerate(part.file.plans):
            name = plan.tensor.name
            if i in part.done:
                continue
            if name not in tasks:
                tasks[name] = Task(plan.tensor, source.holder(plan.tensor), source.find(name), [], [])
            task = tasks[name]
            kind = kind_of(plan)
            if kind not in kinds:
                kinds[kind] = len(task.plans)
                task.plans.append(plan)
                task.places.append([])
            task.places[kinds[kind]].append((part, i))
    return list(tasks.values())


class _Threads:
    """A Pool of this process: one thread a core."""

    def __init__(self, work: Work) -> None:
        share_heaps(KEPT)
        # What is loaded stays: no collection need look at it, neither now nor meanwhile.
        collecting = gc.isenabled()
        gc.disable()
        try:
            choose.announce(work)
            gc.freeze()
        finally:
            if collecting:
                gc.enable()
        threads = cores.count()
        self.at_once, self._pool = threads + 1, ThreadPoolExecutor(threads, initializer=cores.keep_to_one)

    def submit(self, task: Task, first: int, stop: int) -> Callable[[], list[Piece]]:
        return self._pool.submit(made, task, first, stop).result

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        gc.unfreeze()


def work_of(plans: Iterable[Plan]) -> Work:
    """What is to be encoded in either lane; the profiles of builds are the NumPy lane's alone."""
    encoded = [plan for plan in plans if not plan.is_copied and "profile" not in plan.context]
    return [(plan.format, plan.importance is not None, plan.tensor.elements) for plan in encoded]


def _write_tensors(tasks: list[Task], progress: Progress, pool_for: Callable[[Work], Pool]) -> None:
    pool = pool_for(work_of(plan for task in tasks for plan in task.plans))
    waiting: deque[tuple[Task, int, int, Callable[[], list[Piece]]]] = deque()
    compiled: set[str] = set()
    try:
        for task in tasks:
            if not task.rows:
                _finish(task)
            for first, stop in _pieces(task):
                waiting.append((task, first, stop, pool.submit(task, first, stop)))
                if len(waiting) > pool.at_once:
                    _put(*waiting.popleft(), progress, compiled)
        while waiting:
            _put(*waiting.popleft(), progress, compiled)
    finally:
        pool.close()


def _pieces(task: Task) -> Iterator[tuple[int, int]]:
    """Ranges of rows; none spans two matrices, each of which may have importance of its own."""
    matrices = max((1 if p.importance is None else len(p.importance) for p in task.plans), default=1)
    rows, step = task.rows // matrices, max(1, PIECE // task.row)
    for matrix in range(matrices if rows else 0):
        for first in range(matrix * rows, (matrix + 1) * rows, step):
            yield first, min(first + step, (matrix + 1) * rows)


def made(task: Task, first: int, stop: int) -> list[Piece]:
    """What becomes of some rows under each plan. Raises InputError where a weight cannot be quantized."""
    x, largest = None, 0
    readable = task.tensor.type_name in (*FLOATS, "F64", *FORMATS)
    if not all(plan.is_copied for plan in task.plans) or (readable and any(plan.as_released for plan in task.plans)):
        x = _read(task, first, stop)
        largest = x.largest()
        if largest >= EXPONENT[x.kind]:
            bad = first * task.row + int(np.argmax(x.bits & EXPONENT[x.kind] == EXPONENT[x.kind]))
            raise InputError(f"weight {bad} of tensor {task.tensor.name} is not finite: it cannot be quantized")
    return [
        _copied(task, first, stop) if plan.is_copied else _encoded(task, plan, x, first, largest) for plan in task.plans
    ]


class Stored(NamedTuple):
    """Rows as a file stores them: float32, or the bits of F16 or BF16."""

    kind: str
    bits: np.ndarray
    """uint32 or uint16[rows, row length]"""

    def largest(self) -> int:
        """The bits of the largest magnitude."""
        # As signed numbers the positive floats are the largest, as unsigned ones the negative floats.
        signed = self.bits.view(f"i{self.bits.itemsize}").max()
        return max(int(signed), int(self.bits.max()) & np.iinfo(signed.dtype).max)


def _read(task: Task, first: int, stop: int) -> Stored:
    assert task.weights is not None
    which, kind = slice(first, stop), task.tensor.type_name
    if kind in EXPONENT and task.weights.stored is not None:
        bits = task.weights.stored(which).view("<u4" if kind == "F32" else "<u2")
        return Stored(kind, bits.astype(bits.dtype.newbyteorder("="), copy=False))
    return Stored("F32", task.weights.rows(which).view(np.uint32))


def _copied(task: Task, first: int, stop: int) -> bytes:
    row_bytes = task.tensor.known_nbytes // task.rows
    return bytes(task.gguf.data[task.tensor.start + first * row_bytes : task.tensor.start + stop * row_bytes])


def _encoded(task: Task, plan: Plan, x: Stored | None, first: int, largest: int) -> np.ndarray:
    assert x is not None
    own = None
    if plan.importance is not None:
        own = plan.importance[first // (task.rows // len(plan.importance))]
    try:
        floats = x.bits.view(np.float32) if x.kind == "F32" else x.bits
        blocks = api.encode_stored(plan.format, floats, x.kind, own, **plan.context)
    except exact.UnknownBlocks as error:
        raise InputError(f"tensor {task.tensor.name} cannot be written as {plan.format}: {error}") from None
    large = plan.as_released and largest > HARMLESS[x.kind]
    if large and not np.isfinite(api.decode(plan.format, blocks)).all():
        raise InputError(f"tensor {task.tensor.name} has weights too large for {plan.format}")
    return blocks


def _put(
    task: Task, first: int, stop: int, result: Callable[[], list[Piece]], progress: Progress, compiled: set[str]
) -> None:
    """Write a piece. ``compiled``: the formats whose encoders' compilers are done with."""
    for plan, places, data in zip(task.plans, task.places, result(), strict=True):
        at = plan.nbytes // task.rows * first
        for part, i in places:
            part.put(i, at, data)
    progress((stop - first) * task.row, task.tensor.name)
    if stop == task.rows:
        _finish(task)
        release(task.gguf.data, task.tensor.start, task.tensor.start + task.tensor.known_nbytes)
        if task.weights is not None:
            task.weights.forget()
        new = {plan.format for plan in task.plans} - compiled
        if new:
            compiled |= new
            give_back()


def _finish(task: Task) -> None:
    for places in task.places:
        for part, i in places:
            part.finish(i)
