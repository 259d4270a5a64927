"""A file written like another one: byte for byte the same where nothing is changed, whatever its metadata hold."""

from __future__ import annotations

from collections.abc import Mapping

import gguf as gguf_py
import numpy as np
import pytest

from hifi_ref.model_files import gguf_write
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import Gguf, open_gguf, scan
from tests.hostile import ARRAY, STRING, build
from tests.paths import SAMPLE

TENSORS = [("a.weight", 0, (8,), bytes(range(32))), ("b.weight", 1, (4, 3), bytes(range(24)))]
ARCHITECTURE = ("general.architecture", STRING, b"llama")


def rewritten(gguf: Gguf, changes: Mapping[str, int | float | str | None]) -> bytes:
    entries = [gguf_write.Entry(gguf.raw_name(t), t.shape, t.type_id, t.nbytes) for t in gguf.tensors]
    head = gguf_write.head(gguf, changes, entries)
    starts = gguf_write.starts(gguf, len(head), entries)
    out = bytearray(head.ljust(starts[-1], b"\0"))
    for tensor, start in zip(gguf.tensors, starts, strict=False):
        out[start : start + tensor.nbytes] = gguf.data[tensor.start : tensor.start + tensor.nbytes]
    return bytes(out)


def test_what_the_release_writes_is_written_again() -> None:
    assert rewritten(open_gguf(SAMPLE), {}) == SAMPLE.read_bytes()


def test_what_gguf_py_writes_is_written_again(tmp_path) -> None:
    path = tmp_path / "made.gguf"
    writer = gguf_py.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_token_list(["a", "\u00e9", ""])
    writer.add_float32("x", 0.1)
    writer.add_bool("y", True)
    for name in ("a", "b"):
        writer.add_tensor(name, np.arange(9, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert rewritten(open_gguf(path), {}) == path.read_bytes()


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        (TENSORS, []),
        (TENSORS, [("x", 4, 1), ARCHITECTURE]),
        (TENSORS, [ARCHITECTURE, ("empty", ARRAY, []), ("several", ARRAY, [1, 2, 3])]),
        (TENSORS, [ARCHITECTURE, ("not UTF-8", STRING, b"\xff\xfe\x00"), ("a bool of 2", 7, 2)]),
        ([("a\x1b\u202e.weight", *TENSORS[0][1:]), *TENSORS[1:]], [("key\x1b", 4, 1)]),
    ],
    ids=["no metadata", "any order", "arrays", "odd values", "unprintable names"],
)
def test_nothing_is_lost(tensors: list, metadata: list) -> None:
    whole = build(tensors, metadata)
    assert rewritten(scan(whole, Findings()), {}) == whole


def test_entries_are_changed_added_and_left_out() -> None:
    metadata = [ARCHITECTURE, ("old", STRING, b"x"), ("kept", 4, 7), ("number", 4, 1)]
    findings = Findings()
    changes = {"old": None, "absent": None, "number": 2, "f": 0.5, "name": "n\udcff"}
    gguf = scan(rewritten(scan(build(TENSORS, metadata), Findings()), changes), findings)
    assert not findings.counts and list(gguf.metadata) == ["general.architecture", "kept", "number", "f", "name"]
    assert [gguf.metadata[key].scalar for key in ("kept", "number", "f")] == [7, 2, 0.5]
    assert gguf.text("name") == "n\\xff" and [t.name for t in gguf.tensors] == ["a.weight", "b.weight"]
