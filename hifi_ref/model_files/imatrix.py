"""Importance matrices: how much each column of a weight matrix matters, in the two files that llama-imatrix writes.

GGUF, with general.type "imatrix": for a weight NAME the F32 tensors NAME.in_sum2 [columns, matrices], sums of squared
activations, and NAME.counts [1, matrices]. The importance is sum / count, and 1 where the count is 0.

The older .dat, little-endian: i32 entries; each i32 length, name, i32 calls, i32 values, f32[values]; then, mostly,
i32 chunk count, i32 length, data set. The importance is value / calls, or the value itself where there were no calls.

Reference: common_imatrix_load, and load_imatrix of llama-quantize (llama.cpp v0.5.0).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import MAGIC, Gguf, GgufError, open_gguf, printable

SUMS, COUNTS = ".in_sum2", ".counts"
# The longest .dat that is read into memory, far above any model's.
MAX_BYTES = 1 << 32


class ImatrixError(InputError):
    """A file that is no importance matrix, or a broken one. The message names what and where."""


class Imatrix(NamedTuple):
    """``rows`` maps a tensor's name to float32[values]: its columns, or those of each of its matrices in turn.

    ``chunks``: how many pieces of text it was computed from; 0 where it does not say.
    """

    rows: dict[str, np.ndarray]
    datasets: tuple[str, ...] = ()
    chunks: int = 0


class Sums(NamedTuple):
    """What a file holds. ``sums`` maps a tensor's name to float32[matrices, columns], ``counts`` to int64[matrices].

    ``chunk_size``: ids a chunk; 0 where it does not say. A .dat says no counts of its matrices: there it is ``is_dat``,
    and the counts are int64[1], its calls.
    """

    sums: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0
    is_dat: bool = False


def read_imatrix(path: str | os.PathLike[str]) -> Imatrix:
    """Read either form. Raises OSError, or ImatrixError in one sentence."""
    found = read_sums(path)
    rows = importance(found)
    for tensor, row in rows.items():
        if not np.isfinite(row).all():
            name = printable(os.fspath(path))
            raise ImatrixError(f"{name}: the importance of {tensor} is not finite at index {int(_first_bad(row))}")
    return Imatrix(rows, found.datasets, found.chunks)


def read_sums(path: str | os.PathLike[str]) -> Sums:
    """What either form holds, be it finite or not. Raises OSError, or ImatrixError in one sentence."""
    name = printable(os.fspath(path))
    with open(path, "rb") as file:
        is_gguf = file.read(4) == MAGIC
    try:
        return _read_gguf(path) if is_gguf else _read_dat(path)
    except (ImatrixError, GgufError) as error:
        message = str(error)
        raise ImatrixError(message if message.startswith(name) else f"{name}: {message}") from None


def importance(of: Sums) -> dict[str, np.ndarray]:
    """Name -> float32[matrices * columns]: sums by counts; without a count 1, or in a .dat the sum itself."""
    rows = {}
    for name, sums in of.sums.items():
        counts = of.counts[name].astype(np.float32)[:, None]
        with np.errstate(all="ignore"):
            of_none = sums if of.is_dat else np.float32(1)
            rows[name] = np.where(counts > 0, sums / counts, of_none).astype(np.float32).reshape(-1)
    return rows


def _first_bad(row: np.ndarray) -> int:
    return int(np.argmin(np.isfinite(row)))


def _read_gguf(path: str | os.PathLike[str]) -> Sums:
    file = open_gguf(path)
    if file.text("general.type") != "imatrix":
        raise ImatrixError("a GGUF whose general.type is not imatrix")
    tensors = {tensor.name: tensor for tensor in file.tensors}
    all_sums, all_counts = {}, {}
    for name in (n.removesuffix(SUMS) for n in tensors if n.endswith(SUMS)):
        if name + COUNTS not in tensors:
            raise ImatrixError(f"there are sums but no counts for {name}")
        sums, counts = (_floats(file, tensors[name + suffix]) for suffix in (SUMS, COUNTS))
        if not counts.size or sums.size % counts.size:
            raise ImatrixError(f"{name} has {sums.size} sums for {counts.size} matrices")
        # The reference keeps counts as integers, rounded half away from zero.
        with np.errstate(all="ignore"):
            all_counts[name] = np.trunc(counts + np.copysign(np.float32(0.5), counts)).astype(np.int64)
        all_sums[name] = sums.reshape(len(counts), -1)
    if not all_sums:
        raise ImatrixError("there are no sums in it")
    chunks, size = (file.metadata.get(f"imatrix.{key}") for key in ("chunk_count", "chunk_size"))
    return Sums(
        all_sums, all_counts, tuple(_texts(file, "imatrix.datasets")), (chunks.integer or 0) if chunks else 0,
        (size.integer or 0) if size else 0,
    )  # fmt: skip


def _floats(file: Gguf, tensor) -> np.ndarray:
    if tensor.type_name != "F32":
        raise ImatrixError(f"{tensor.name} is {tensor.type_name}, not F32")
    return file.blocks(tensor).reshape(-1).view(file.order + "f4").astype(np.float32)


def _texts(file: Gguf, key: str) -> list[str]:
    """An array of strings of the metadata; none where it is absent or something else."""
    value = file.metadata.get(key)
    if value is None or value.kind != "string" or value.count is None:
        return []
    texts, at = [], value.start
    for _ in range(value.count):
        (length,) = struct.unpack_from(file.order + "Q", file.data, at)
        texts.append(printable(file.data[at + 8 : at + 8 + length]))
        at += 8 + length
    return texts


def _read_dat(path: str | os.PathLike[str]) -> Sums:
    if os.path.getsize(path) > MAX_BYTES:
        raise ImatrixError(f"larger than {MAX_BYTES} bytes, so no importance matrix")
    data, at = Path(path).read_bytes(), 0

    def take(n: int, what: str) -> int:
        nonlocal at
        if n < 0 or n > len(data) - at:
            raise ImatrixError(f"no importance matrix: {what}, at byte {at}, needs {n} bytes of {len(data) - at}")
        at += n
        return at - n

    def number(what: str) -> int:
        return struct.unpack_from("<i", data, take(4, what))[0]

    n_entries = number("the number of entries")
    if n_entries < 1:
        raise ImatrixError(f"no importance matrix: it announces {n_entries} entries")
    sums, all_calls = {}, {}
    for i in range(n_entries):
        length = number(f"the length of name {i}")
        start = take(length, f"name {i}")
        name = printable(data[start : start + length])
        calls, values = number(f"the calls of {name}"), number(f"the number of values of {name}")
        if values < 1:
            raise ImatrixError(f"{name} has {values} values")
        row = np.frombuffer(data, "<f4", values, take(4 * values, f"the values of {name}")).astype(np.float32)
        sums[name], all_calls[name] = row[None], np.array([calls], np.int64)
    if at == len(data):
        return Sums(sums, all_calls, is_dat=True)
    chunks = number("the chunk count")
    if at == len(data):
        return Sums(sums, all_calls, (), chunks, is_dat=True)
    length = number("the length of the data set's name")
    start = take(length, "the data set's name")
    datasets = (printable(data[start : start + length]),) if length > 0 else ()
    return Sums(sums, all_calls, datasets, chunks, is_dat=True)
