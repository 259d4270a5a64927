"""Type ids of forks: known by the tensors' sizes, never guessed where those leave it open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifi_ref.check.payload import HIFI_RULES
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.resolve_dialect import MARKS, Claim, resolve
from hifi_ref.model_files.tensor_types import TensorType, nbytes
from tests.hostile import build, run_check

OURS = DIALECTS[REFERENCE].ids
FOREIGN = [(name, i, kind) for name, d in DIALECTS.items() for i, kind in d.ids.items() if kind != OURS.get(i)]


def write(path: Path, tensors: list[tuple[int, TensorType, tuple[int, ...]]], blocks: bytes = b"") -> Path:
    """A file of zeros, or of these bytes; a tensor of F32 comes last, so that every size can be known."""
    entries = [
        (f"t{n}", i, shape, (blocks or bytes(nbytes(kind, shape)))[: nbytes(kind, shape)])
        for n, (i, kind, shape) in enumerate(tensors)
    ]
    path.write_bytes(build([*entries, ("last", 0, (8,), bytes(32))]))
    return path


def codes(path: Path, *flags: str) -> list[str]:
    out = run_check(path, "--quiet", "--ignore=L", *flags)[1]
    return [line.split()[1] for line in out.splitlines() if line.startswith(("error ", "warning "))]


def test_the_reference_is_what_the_formats_say() -> None:
    for i, kind in OURS.items():
        if kind.name in FORMATS:
            f = FORMATS[kind.name]
            assert (f.type_id, f.block_size, f.type_size, 0) == (i, *kind[1:])
    assert {kind.name for kind in OURS.values()} - set(FORMATS) == {"I8", "I16", "I32", "I64", "F64"}


def test_names_that_are_formats_have_their_sizes() -> None:
    for dialect in DIALECTS.values():
        for kind in dialect.ids.values():
            if kind.name in FORMATS:
                assert kind[1:3] == (FORMATS[kind.name].block_size, FORMATS[kind.name].type_size), kind
    sizes = {kind.name: kind.type_size for d in DIALECTS.values() for kind in d.ids.values()}
    assert all(stop <= sizes[name] for name, marks in MARKS.items() for _, stop, _ in marks)


@pytest.mark.parametrize(("name", "type_id", "kind"), FOREIGN, ids=lambda v: getattr(v, "name", v))
def test_every_foreign_type_is_recognized(tmp_path: Path, name: str, type_id: int, kind: TensorType) -> None:
    path = write(tmp_path / "f.gguf", [(type_id, kind, (1024, 24))])
    file = open_gguf(path)
    # IQ4_KS and others have the size of a tensor's blocks and its rows' scales.
    assert (file.dialect, file.tensors[0].type, file.tensors[0].nbytes) == (name, kind, nbytes(kind, (1024, 24)))
    found = codes(path)
    assert found[-1 if kind.name in FORMATS else 0] == "D001" and "G012" not in found
    assert ("D003" in found) == (kind.name not in FORMATS)
    assert "D001" not in codes(path, f"--dialect={name}")


@pytest.mark.parametrize(("type_id", "kind"), OURS.items(), ids=lambda v: getattr(v, "name", v))
def test_the_reference_is_never_taken_for_a_fork(tmp_path: Path, type_id: int, kind: TensorType) -> None:
    for shape in [(kind.block_size,), (256, 6), (4096, 16)]:
        path = write(tmp_path / "f.gguf", [(type_id, kind, shape)])
        file = open_gguf(path)
        assert (file.dialect, file.tensors[0].type) == (REFERENCE, kind)
        assert codes(path) == []


def test_marks_decide_where_padding_hides_the_size(tmp_path: Path) -> None:
    """A single block of NVFP4 (4 x 36 bytes) or of Q3_K_HIFI (136): both fill 160 bytes with their padding."""
    nvfp4, hifi = OURS[40], DIALECTS["hifi"].ids[40]
    either = write(tmp_path / "f.gguf", [(40, nvfp4, (256,))])
    # All zeros: nothing tells them apart.
    assert codes(either) == ["D002"]
    assert "type id 40 is NVFP4 (llama.cpp) or Q3_K_HIFI (hifi)" in run_check(either)[1]
    assert run_check(either, "--dialect=llama.cpp", "--ignore=L")[0] == 0
    codes_only = write(tmp_path / "f.gguf", [(40, nvfp4, (256,))], bytes(100) + b"\x77" * 44)
    assert codes(codes_only) == [] and open_gguf(codes_only).dialect == REFERENCE
    signed = write(tmp_path / "f.gguf", [(40, hifi, (256,))], b"\xff" * 134 + b"\0\0")
    assert open_gguf(signed).dialect == "hifi"


def test_one_tensor_that_is_recognized_settles_the_others(tmp_path: Path) -> None:
    ids = DIALECTS["hifi"].ids
    path = write(tmp_path / "f.gguf", [(40, ids[40], (256,)), (46, ids[46], (256, 64))])
    assert open_gguf(path).dialect == "hifi"


def test_what_fits_nothing_is_the_references_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    path.write_bytes(build([("a", 139, (256, 4), bytes(100)), ("b", 0, (8,), bytes(32))]))
    out = run_check(path, "--quiet")[1]
    assert "tensor a: the type id 139, at byte 53, is unknown: IQ4_K (ik_llama.cpp) has another size" in out
    assert resolve([Claim(40, (256, 8), 1, 2)]).fits is False
    assert "error G012" in run_check(path, "--quiet", "--dialect=hifi")[1]


def test_a_fork_cut_off_is_still_recognized(tmp_path: Path) -> None:
    ids = DIALECTS["ik_llama.cpp"].ids
    path = write(tmp_path / "f.gguf", [(139, ids[139], (256, 8)), (144, ids[144], (256, 8))])
    path.write_bytes(path.read_bytes()[:-60])
    found = codes(path)
    assert "D001" in found and "G018" in found and "G012" not in found


def test_sizes_of_rows() -> None:
    iq4_ks = DIALECTS["ik_llama.cpp"].ids[144]
    assert nbytes(iq4_ks, (512, 3)) == 3 * (2 * 136 + 4) and nbytes(iq4_ks, (500, 3)) is None
    assert nbytes(OURS[0], ()) == 4


def test_counts_and_padding_of_the_hifi_formats(tmp_path: Path) -> None:
    """More outliers than a block has room for are an error; padding that is not 0 hints at another writer."""
    for dialect in ("hifi", "hifi-lite"):
        for i, kind in DIALECTS[dialect].ids.items():
            for rule in HIFI_RULES.get(kind.name, ()):
                layout = FORMATS[kind.name].layout
                blocks = np.zeros((64, kind.type_size), np.uint8)
                illegal = np.flatnonzero(rule.illegal)
                for value, found in ((illegal[0] - 1, []), (illegal[0], [rule.code])):
                    blocks[5, layout.offset(rule.field)] = value
                    path = write(tmp_path / "f.gguf", [(i, kind, (256, 64))], blocks.tobytes())
                    assert codes(path, f"--dialect={dialect}") == found, (kind, rule)
