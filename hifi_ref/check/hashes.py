"""SHA-256 of files, of every tensor's data and of every metadata value, made in the pass that looks at the blocks."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hifi_ref.check.payload import release
from hifi_ref.model_files.gguf_header import KINDS
from hifi_ref.model_files.gguf_model import CHUNK, Gguf, Tensor, Value
from hifi_ref.model_files.models import with_its_shards
from hifi_ref.model_files.remote import held
from hifi_ref.model_files.safetensors_file import INDEX

_ITEM_BYTES = {kind.name: struct.calcsize("=" + kind.letter) for kind in KINDS.values() if kind.letter}


class Hashes(NamedTuple):
    """Digests of one file, in hexadecimal. ``tensors`` has one for each of the file's, None where it is not readable.

    ``metadata`` maps a key to the digest of its value: of the kind's name, for an array [count] behind it, a zero byte,
    and the value's bytes as the file has them.
    """

    sha256: str
    tensors: list[str | None]
    metadata: dict[str, str]


class HashedFile(NamedTuple):
    """A file that something was made from: its last name, its size in bytes, its digest."""

    name: str
    size: int
    sha256: str


class Hashing:
    """The digests of one file, whose tensors are gone through in the order of the file.

    While the block of `beside(tensor)` runs, two threads hash the tensor: for the file's digest, and for its own.
    """

    def __init__(self, gguf: Gguf) -> None:
        self.gguf, self._file, self._at = gguf, hashlib.sha256(), 0
        self._tensors: dict[int, str] = {}

    @contextmanager
    def beside(self, tensor: Tensor) -> Iterator[None]:
        start, stop = tensor.start, tensor.start + tensor.known_nbytes
        self._go_on_to(start)
        own = hashlib.sha256()
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(_update, digest, self.gguf, start, stop) for digest in (self._file, own)]
            yield
            for done in both:
                done.result()
        self._at = stop
        self._tensors[tensor.entry_at] = own.hexdigest()

    def finish(self) -> Hashes:
        """After the last tensor."""
        self._go_on_to(len(self.gguf.data))
        tensors = [self._tensors.get(tensor.entry_at) for tensor in self.gguf.tensors]
        return Hashes(self._file.hexdigest(), tensors, metadata_digests(self.gguf))

    def _go_on_to(self, stop: int) -> None:
        """What lies between tensors belongs to the file alone."""
        _update(self._file, self.gguf, self._at, stop)
        self._at = stop


def _update(digest: Any, gguf: Gguf, start: int, stop: int) -> None:
    """Add bytes of the file; what was read is given back to the system."""
    with memoryview(gguf.data) as view:
        for first in range(start, stop, 16 * CHUNK):
            last = min(stop, first + 16 * CHUNK)
            with held(gguf.data, first, last):
                for at in range(first, last, CHUNK):
                    digest.update(view[at : min(at + CHUNK, last)])
            release(gguf.data, first, last)


def metadata_digests(gguf: Gguf) -> dict[str, str]:
    """Of each metadata value that was read."""
    return {key: _value_digest(gguf, value) for key, value in gguf.metadata.items()}


def _value_digest(gguf: Gguf, value: Value) -> str:
    kind = value.kind if value.count is None else f"{value.kind}[{value.count}]"
    length = struct.Struct(gguf.order + "Q").unpack_from
    start, stop = value.start, value.start
    if value.kind in _ITEM_BYTES:
        stop += _ITEM_BYTES[value.kind] * (1 if value.count is None else value.count)
    elif value.count is None:
        start -= 8
        stop += length(gguf.data, start)[0]
    else:
        for _ in range(value.count):
            stop += 8 + length(gguf.data, stop)[0]
    return hashlib.sha256(kind.encode() + b"\0" + gguf.data[start:stop]).hexdigest()


def source_files(path: Path) -> list[Path]:
    """The files that a source, which was opened, keeps its weights in, and the configuration beside them."""
    if path.is_dir():
        path = path / INDEX if (path / INDEX).exists() else path / "model.safetensors"
    files = [Path(part) for part in with_its_shards(os.fspath(path)).paths]
    if path.suffix == ".json":
        names = json.loads(path.read_bytes())["weight_map"].values()
        files += [path.parent / name for name in sorted(set(names))]
    config = path.parent / "config.json"
    return files + [config] if path.suffix in (".json", ".safetensors") and config.exists() else files


def hash_files(paths: Iterable[str | os.PathLike[str]]) -> list[HashedFile]:
    """Whole files, read once from beginning to end. Raises OSError."""
    found = []
    for path in paths:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            found.append(HashedFile(os.path.basename(path), os.fstat(file.fileno()).st_size, digest))
    return found
