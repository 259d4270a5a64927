"""Importance matrices put together and written, as llama-imatrix does.

Reference: save_imatrix, save_imatrix_legacy and load_imatrix of llama-imatrix (llama.cpp v0.5.0).
"""

from __future__ import annotations

import struct

import numpy as np

from hifi_ref.model_files.gguf_model import DEFAULT_ALIGNMENT, padded
from hifi_ref.model_files.gguf_write import Change, Entry, head
from hifi_ref.model_files.imatrix import COUNTS, SUMS, ImatrixError, Sums

F32 = 0
FORMATS = ("gguf", "dat")


def merged(parts: list[tuple[str, Sums]], chunk_size: int) -> Sums:
    """Sums and counts of several added, first to last; each part comes with its name.

    Of a .dat, which holds means, what ``chunk_size`` rows a call would have summed to. Raises ImatrixError where two do
    not belong to one model.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    for name, part in parts:
        for tensor, values in part.sums.items():
            rows = part.counts[tensor]
            if part.is_dat:
                values, rows = values * np.float32(chunk_size), rows * chunk_size
            if tensor not in sums:
                # As the release does, from 0, so that -0 becomes 0.
                sums[tensor], counts[tensor] = np.zeros_like(values), np.zeros_like(rows)
            if sums[tensor].size != values.size:
                raise ImatrixError(
                    f"{name} is the importance matrix of another model: {tensor} has {values.size} values in it, and"
                    f" {sums[tensor].size} in those before"
                )
            before = counts[tensor].size
            if before != rows.size and before != 1 and not part.is_dat:
                raise ImatrixError(f"{name} has {rows.size} counts for {tensor}, and those before {before}")
            counts[tensor] = counts[tensor] + rows
            sums[tensor] = (sums[tensor].reshape(-1) + values.reshape(-1)).reshape(len(counts[tensor]), -1)
    datasets = tuple(dataset for _, part in parts for dataset in part.datasets)
    return complete(sums, counts, datasets, chunk_size)


def complete(
    sums: dict[str, np.ndarray], counts: dict[str, np.ndarray], datasets: tuple[str, ...], chunk_size: int
) -> Sums:
    """With the number of chunks that the largest count makes."""
    most = max((int(rows.max()) for rows in counts.values()), default=0)
    return Sums(sums, counts, datasets, most // chunk_size, chunk_size)


def to_gguf(of: Sums) -> bytes:
    """The file as llama-imatrix writes it: names in order, sums before counts, each padded."""
    entries, data = [], []
    for name in sorted(of.sums, key=str.encode):
        sums, counts = of.sums[name], of.counts[name]
        for suffix, values in ((SUMS, sums), (COUNTS, counts[:, None])):
            raw = values.astype("<f4").tobytes()
            # An axis of one row is left out, as the release does.
            shape = values.shape[::-1] if len(values) > 1 else values.shape[-1:]
            entries.append(Entry((name + suffix).encode(), shape, F32, len(raw)))
            data.append(raw + bytes(padded(len(raw), DEFAULT_ALIGNMENT) - len(raw)))
    metadata: dict[str, Change] = {
        "general.type": "imatrix", "imatrix.datasets": of.datasets, "imatrix.chunk_count": of.chunks,
        "imatrix.chunk_size": of.chunk_size,
    }  # fmt: skip
    return head(None, metadata, entries) + b"".join(data)


def to_dat(of: Sums) -> bytes:
    """The older form: means times calls; tensors that nothing was counted for are left out, the last data set named."""
    names = [name for name in sorted(of.sums, key=str.encode) if of.counts[name].any()]
    parts = [struct.pack("<i", len(names))]
    for name in names:
        counts = of.counts[name]
        calls = -(-int(counts.max()) // of.chunk_size)
        rows = counts.astype(np.float32)[:, None]
        # An expert that was never chosen counts as 1.
        values = np.where(rows == 0, np.float32(1), of.sums[name]) / np.where(rows == 0, np.float32(1), rows)
        raw = (values * np.float32(calls)).astype("<f4").tobytes()
        parts += [struct.pack("<i", len(name.encode())), name.encode(), struct.pack("<ii", calls, len(raw) // 4), raw]
    dataset = of.datasets[-1].encode("utf-8", "surrogateescape") if of.datasets else b""
    return b"".join([*parts, struct.pack("<ii", of.chunks, len(dataset)), dataset])
