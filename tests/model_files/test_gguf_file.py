"""The reader against gguf-py's reader and writer, and against every way in which a structure can be wrong."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import MAX_ENTRIES, GgufError, map_file, open_gguf, printable, scan
from tests import sources
from tests.hostile import build
from tests.paths import SAMPLE

F32, Q4_K = 0, 12
ROW = np.arange(8, dtype="<f4").tobytes()
TWO = [("a", F32, (8,), ROW), ("b", F32, (4, 2), ROW)]


def found(data: bytes) -> list[tuple[str, str]]:
    """Code and message of each finding about a file's structure."""
    findings = Findings()
    scan(data, findings)
    return [(finding.code, finding.message) for finding in findings.kept]


def patch(data: bytes, at: int, form: str, value: int) -> bytes:
    new = struct.pack(form, value)
    return data[:at] + new + data[at + len(new) :]


def test_sample_agrees_with_gguf_py() -> None:
    ours, theirs = open_gguf(SAMPLE), gguf.GGUFReader(SAMPLE)
    assert (ours.version, ours.order, ours.alignment) == (3, "<", 32)
    assert [(t.name, t.type_name, list(t.shape), t.start, t.nbytes, t.elements) for t in ours.tensors] == [
        (t.name, t.tensor_type.name, t.shape.tolist(), t.data_offset, t.n_bytes, t.n_elements) for t in theirs.tensors
    ]
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        if value.count is not None:
            assert value.count == len(field.data)
        elif value.kind == "string":
            assert ours.text(name) == field.contents()
        else:
            assert value.scalar == pytest.approx(field.contents(), rel=1e-7)
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert ours.blocks(mine).tobytes() == other.data.tobytes()
    assert ours.text("no.such.key") is None and ours.text("tokenizer.ggml.tokens") is None


@pytest.mark.parametrize("endian", [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG])
def test_files_of_gguf_py_in_both_byte_orders(tmp_path: Path, endian: gguf.GGUFEndian) -> None:
    path = tmp_path / "f.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    writer.add_custom_alignment(64)
    writer.add_int64("t.i64", -5)
    writer.add_float64("t.f64", 0.25)
    writer.add_bool("t.bool", True)
    writer.add_array("t.strings", ["one", "", "drei"])
    writer.add_array("t.floats", [1.5, 2.5])
    writer.add_tensor("x", np.arange(21, dtype=np.float32).reshape(3, 7))
    writer.add_tensor("y", np.arange(9, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = open_gguf(path)
    assert file.order == (">" if endian == gguf.GGUFEndian.BIG else "<")
    assert (file.version, file.alignment, file.text("general.architecture")) == (3, 64, "llama")
    assert [file.metadata[f"t.{key}"].scalar for key in ("i64", "f64", "bool")] == [-5, 0.25, True]
    assert [file.metadata[f"t.{key}"].count for key in ("strings", "floats")] == [3, 2]
    assert [(t.name, t.shape, t.type_name, t.nbytes) for t in file.tensors] == [
        ("x", (7, 3), "F32", 84),
        ("y", (9,), "F16", 18),
    ]
    assert file.blocks(file.tensors[0]).view(f"{file.order}f4").reshape(-1).tolist() == list(range(21))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_versions_and_byte_orders(version: int, order: str) -> None:
    metadata = [("k.text", 8, b"hello"), ("k.list", 9, [1, 2, 3]), ("k.flag", 7, 1)]
    findings = Findings()
    file = scan(build(TWO, metadata, order=order, version=version), findings)
    assert not findings.kept
    assert (file.version, file.order, file.text("k.text")) == (version, order, "hello")
    assert [t.shape for t in file.tensors] == [(8,), (4, 2)]


def test_wrong_headers() -> None:
    good = build(TWO)
    assert found(good) == []
    assert found(patch(good, 4, "<I", 1)) == [("G002", "the version, at byte 4, is 1; this release reads 2 and 3")]
    assert found(patch(good, 4, "<I", 4))[0][0] == "G002"
    assert found(patch(good, 4, "<I", 0))[0][0] == "G002"
    assert found(good[:10]) == [
        ("G001", "the file ends at byte 10 inside the number of tensors, which needs bytes 8 to 16")
    ]
    message = f"the number of tensors, at byte 8, is {2**64 - 1}; at most {MAX_ENTRIES} can be read"
    assert found(patch(good, 8, "<Q", 2**64 - 1)) == [("G003", message)]
    message = f"the number of metadata entries, at byte 16, is 500, but only {len(good) - 24} bytes of the file follow"
    assert found(patch(good, 16, "<Q", 500)) == [("G003", message)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([("", 4, 1)], ("G004", "the key of metadata entry 0, at byte 24, is empty or holds a NUL byte")),
        ([("a\0b", 4, 1)], ("G004", "the key of metadata entry 0, at byte 24, is empty or holds a NUL byte")),
        ([("a", 4, 1), ("a", 4, 2)], ("G005", "metadata key a occurs twice, again at byte 41")),
        ([("a", 13, 1)], ("G006", "the value of a, at byte 33, is of kind 13; kinds 0 to 12 are defined")),
        ([("general.alignment", 4, 48)], ("G007", "general.alignment is 48, no power of two")),
        ([("general.alignment", 4, 0)], ("G007", "general.alignment is 0, no power of two")),
        ([("general.alignment", 5, 32)], ("G007", "general.alignment is a single value of kind i32, not one u32")),
        ([("general.alignment", 9, [32])], ("G007", "general.alignment is an array of kind u32, not one u32")),
        ([("a\nb", 4, 1)], ("G023", r"metadata key a\nb, at byte 24, holds control characters or is not UTF-8")),
        ([("a", 7, 3)], ("G024", "the value of a holds a bool of 3 at byte 37")),
    ],
)
def test_wrong_metadata(metadata: list[tuple[str, int, object]], expected: tuple[str, str]) -> None:
    assert found(build(TWO, metadata)) == [expected]


def test_wrong_arrays_and_strings() -> None:
    file = build([], [("k", 9, [4, 5])])
    assert found(patch(file, 37, "<I", 9)) == [
        ("G006", "the value of k, at byte 37, is an array of arrays, which no reader accepts")
    ]
    assert found(patch(file, 41, "<Q", 4)) == [
        ("G003", f"the number of items of k, at byte 41, is 4, but only {len(file) - 49} bytes of the file follow")
    ]
    text = build([], [("k", 8, b"word")])
    assert found(patch(text, 37, "<Q", 2**63))[0][0] == "G003"
    # Two strings of three bytes each, then the second made longer, and the file cut inside its length.
    strings = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 2)
    strings += 2 * (struct.pack("<Q", 3) + b"abc")
    assert found(strings) == []
    assert found(patch(strings, len(strings) - 11, "<Q", 4)) == [
        ("G003", "a string of the value of k reaches beyond the end of the file")
    ]
    assert found(strings[:-4]) == [
        ("G001", f"the file ends at byte {len(strings) - 4} inside string 1 of the value of k")
    ]


# In build(TWO), tensor a's entry starts at byte 24, b's at 57; data starts at 128.
A_SHAPE, A_TYPE, A_OFFSET = 24 + 9 + 4, 24 + 9 + 12, 24 + 9 + 16
B_DIMS, B_SHAPE, B_TYPE, B_OFFSET = 57 + 9, 57 + 9 + 4, 57 + 9 + 20, 57 + 9 + 24


@pytest.mark.parametrize(
    ("at", "form", "value", "expected"),
    [
        (B_DIMS, "<I", 5, [("G010", "tensor b has 5 dimensions, at byte 66; 4 at most")]),
        (
            B_SHAPE, "<Q", 2**63,
            [("G010", f"tensor b: a dimension of {2**63} is negative as a signed number")],
        ),
        (B_SHAPE, "<Q", 2**62, [("G011", f"tensor b: {2**63} elements do not fit in 63 bits")]),
        (B_SHAPE, "<Q", 2**61, [("G011", f"tensor b: {2**64} bytes do not fit in 63 bits")]),
        (B_TYPE, "<I", 99, [("G012", "tensor b: the type id 99, at byte 86, is unknown")]),
        (
            B_TYPE, "<I", 31,
            [("G013", "tensor b: the type id 31, at byte 86, was Q4_0_4_4, removed in December 2024: use Q4_0")],
        ),
        (B_TYPE, "<I", Q4_K, [("G014", "tensor b: rows of 4 weights are not whole Q4_K blocks of 256")]),
        (B_OFFSET, "<Q", 40, [("G015", "tensor b: the offset 40 in the data section is no multiple of 32")]),
        (B_OFFSET, "<Q", 2**64 - 32, [("G017", None), ("G018", None)]),
        (B_OFFSET, "<Q", 0, [("G017", None), ("G016", "tensor b: bytes 128 to 160 overlap those of tensor a")]),
        (B_OFFSET, "<Q", 64, [
            ("G017", "tensor b: the offset in the data section is 64, where 32 is expected"),
            ("G018", "tensor b: the data needs bytes 192 to 224, but the file ends at byte 192"),
        ]),
        (A_SHAPE, "<Q", 0, [
            ("G022", "tensor a: the shape [0] holds nothing"),
            ("G017", "tensor b: the offset in the data section is 32, where 0 is expected"),
        ]),
        (A_TYPE, "<I", 1, [("P006", None)]),
        (A_OFFSET, "<Q", 32, [
            ("G017", "tensor a: the offset in the data section is 32, where 0 is expected"),
            ("G016", "tensor b: bytes 160 to 192 overlap those of tensor a"),
        ]),
    ],
)  # fmt: skip
def test_wrong_tensor_entries(at: int, form: str, value: int, expected: list[tuple[str, str | None]]) -> None:
    got = found(patch(build(TWO), at, form, value))
    for code, message in expected:
        assert code in [c for c, _ in got]
        assert message is None or (code, message) in got


def test_tensor_names() -> None:
    long = "n" * 64
    assert found(build([(long, F32, (8,), ROW)])) == [
        ("G008", f"tensor {long}: the name has 64 bytes; at most 63 are allowed, and none may be NUL")
    ]
    assert found(build([("n" * 63, F32, (8,), ROW)])) == []
    assert found(build([("x", F32, (8,), ROW), ("x", F32, (8,), ROW)])) == [
        ("G009", "tensor x: the name occurs twice, again at byte 57")
    ]
    assert [code for code, _ in found(build([("\x1b[31m", F32, (8,), ROW)]))] == ["G023"]
    assert printable("\x1b[31m") == r"\x1b[31m" and printable(b"\xff") == r"\xff" and printable("Größe") == "Größe"


def test_padding_and_the_end_of_the_file() -> None:
    short = build([("a", F32, (3,), ROW[:12]), ("b", F32, (3,), ROW[:12])])
    start = len(short) - 64
    assert found(short) == []
    message = f"1 of the 20 padding bytes from byte {start + 12} are not zero, the first at {start + 20}"
    assert found(patch(short, start + 20, "<B", 7)) == [("P006", message)]
    assert found(patch(short, start - 1, "<B", 7))[0][0] == "P006"
    message = f"5 bytes follow the last tensor, which ends with its padding at byte {len(short)}"
    assert found(short + b"extra") == [("G020", message)]
    message = f"the file ends at byte {len(short) - 20}, 20 bytes short of the padding that closes its last tensor"
    assert found(short[:-20]) == [("G019", message)]
    assert [code for code, _ in found(short[:-21])] == ["G018"]
    # Without tensors ggml pads the header, and gguf-py does not.
    empty = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    assert found(empty) == found(empty + bytes(8)) == []
    assert [code for code, _ in found(empty + bytes(9))] == ["G020"]


def test_what_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    with pytest.raises(GgufError, match="is empty, so no GGUF"):
        map_file(path)
    path.write_text("hello")
    with pytest.raises(GgufError, match=r"is no GGUF: it starts with b'hell', not b'GGUF'"):
        map_file(path)
    path.write_bytes(struct.pack("<I", 0x67676A74))
    with pytest.raises(GgufError, match="from before GGUF"):
        map_file(path)
    with pytest.raises(GgufError, match="is a directory, so no GGUF"):
        map_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GgufError, match="is no regular file, so no GGUF"):
        map_file(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "absent")


def test_open_gguf_raises_on_the_first_error(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    path.write_bytes(patch(build(TWO), B_TYPE, "<I", 4))
    with pytest.raises(GgufError) as caught:
        open_gguf(path)
    message = "tensor b: the type id 4, at byte 86, was Q4_2, removed in May 2023, before GGUF"
    assert str(caught.value) == f"{path}: {message}"


def test_a_big_endian_file_of_the_converter(tmp_path: Path) -> None:
    """gguf-py's own converter turns the sample around; both then say the same."""
    big, little = open_gguf(sources.big_endian(SAMPLE, tmp_path / "big.gguf")), open_gguf(SAMPLE)
    assert (big.order, little.order) == (">", "<")
    assert [(t.name, t.shape, t.type, t.start) for t in big.tensors] == [
        (t.name, t.shape, t.type, t.start) for t in little.tensors
    ]
    assert {k: v.scalar for k, v in big.metadata.items()} == {k: v.scalar for k, v in little.metadata.items()}


def test_a_long_vocabulary_is_walked_quickly() -> None:
    count = 400_000
    body = b"".join(struct.pack("<Q", i % 9) + b"x" * (i % 9) for i in range(count))
    data = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, count) + body
    start = time.perf_counter()
    assert found(data) == []
    assert time.perf_counter() - start < 2


def test_findings_keep_the_first_of_each_code_and_count_all() -> None:
    findings = Findings(limit=3)
    for i in range(10):
        findings.add(Finding("G012", f"number {i}"))
    assert [f.message for f in findings.kept] == ["number 0", "number 1", "number 2"]
    assert findings.counts == {"G012": 10}
    assert all(entry.severity in ("error", "warning", "note") for entry in CODES.values())
