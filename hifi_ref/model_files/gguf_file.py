"""Reading a GGUF file: header, metadata and tensor list, memory-mapped, with every claim of the file checked.

A GGUF file, versions 2 and 3, in the file's own byte order:

    "GGUF"  u32 version  u64 tensor count  u64 metadata count
    metadata entries: key, u32 kind, value    a string is u64 length and bytes; an array is u32 kind, u64 count, values
    tensor entries:   name, u32 n, u64 dimension[n] (row length first), u32 type, u64 offset in the data section
    zero bytes up to a multiple of general.alignment (32 where absent), then each tensor's data, each so padded

`scan` reads as far as the file can be understood and notes what is wrong; `open_gguf` raises on the first error. The
parts: gguf_model holds what was read, gguf_header reads the entries, gguf_place finds the tensors' types and places.
"""

from __future__ import annotations

import mmap
import os
import stat

from hifi_ref.model_files import gguf_header, gguf_place
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_header import MAX_ENTRIES
from hifi_ref.model_files.gguf_model import Gguf, GgufError, Tensor, note, printable
from hifi_ref.model_files.remote import RemoteMap, is_remote

__all__ = [
    "MAX_ENTRIES", "TENSOR_TYPES", "Gguf", "GgufError", "Tensor", "map_file", "note", "open_gguf", "printable", "scan",
]  # fmt: skip

MAGIC = b"GGUF"
# Of a remote file so many bytes are fetched first, and no more than so many for its header and metadata.
REMOTE_HEAD, REMOTE_HEADER = 1 << 20, 1 << 28
OLD_MAGICS = {b"lmgg", b"fmgg", b"tjgg", b"algg"}

# The reference's type ids.
TENSOR_TYPES = DIALECTS[REFERENCE].ids


def map_file(path: str | os.PathLike[str]) -> mmap.mmap:
    """Map a file that starts with GGUF's magic; of one at an address the header, the metadata and the list of tensors.

    Raises OSError, GgufError where it is no GGUF, or InputError where an address cannot be read.
    """
    if is_remote(path):
        return _map_remote(os.fspath(path))
    # A pipe or a device would block or never end, so look before opening.
    if not stat.S_ISREG(os.stat(path).st_mode):
        kind = "a directory" if os.path.isdir(path) else "no regular file"
        raise GgufError(f"{printable(os.fspath(path))} is {kind}, so no GGUF")
    with open(path, "rb") as file:
        head = file.read(4)
        _check_magic(head, path)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _check_magic(head: bytes, path: str | os.PathLike[str]) -> None:
    name = printable(os.fspath(path))
    if not head:
        raise GgufError(f"{name} is empty, so no GGUF")
    if head in OLD_MAGICS:
        raise GgufError(f"{name} is a GGML file from before GGUF (August 2023): convert the model again")
    if head != MAGIC:
        raise GgufError(f"{name} is no GGUF: it starts with {head!r}, not {MAGIC!r}")


def _map_remote(url: str) -> RemoteMap:
    """More and more of the file's beginning is fetched, until the list of tensors, or what is wrong, lies in it."""
    data = RemoteMap(url)
    data.need(0, REMOTE_HEAD)
    _check_magic(data[: len(MAGIC)], url)
    reached, here = 0, REMOTE_HEAD
    while True:
        findings = Findings()
        end = gguf_header.read(Gguf(data), findings)
        # Where nothing was fetched there are zeros: the reader goes on through them, or stops at them.
        reached = end if end is not None else findings.kept[-1].offset or 0
        if reached + gguf_header.MAX_KEY < here or here >= len(data):
            return data
        here = max(4 * here, reached + 2 * gguf_header.MAX_KEY)
        if here > REMOTE_HEADER and here < len(data):
            raise GgufError(f"{printable(url)}: the metadata do not end within {REMOTE_HEADER} bytes: fetch the file")
        data.need(0, here)


def open_gguf(path: str | os.PathLike[str], dialect: str | None = None) -> Gguf:
    """Read a sound local file's structure. Raises OSError, or GgufError with the first error found."""
    if is_remote(path):
        # Whoever reads its tensors does not ask for their bytes first.
        raise GgufError(f"{printable(os.fspath(path))} is an address: fetch the file, and give the copy")
    findings = Findings()
    gguf = scan(map_file(path), findings, dialect)
    if findings.errors:
        raise GgufError(f"{printable(os.fspath(path))}: {findings.errors[0].message}")
    return gguf


def scan(data: mmap.mmap | bytes, findings: Findings, dialect: str | None = None) -> Gguf:
    """Read the structure of a file that starts with MAGIC, as far as it goes; what is wrong goes into ``findings``.

    ``dialect``, a key of DIALECTS, says what the type ids mean; None finds out.
    """
    gguf = Gguf(data)
    end = gguf_header.read(gguf, findings)
    gguf_place.place_tensors(gguf, end, dialect, findings)
    return gguf
