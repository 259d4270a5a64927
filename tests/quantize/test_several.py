"""Several files at once, files for a size, and the section of a model card about them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import write
from tests.check import rewrite
from tests.hostile import run_check
from tests.quantize import families

NAMES = ("Q4_K_M", "Q5_K_M", "IQ4_XS", "Q4_K_S")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return families.written(families.described("llama"), tmp_path / "tiny.gguf", "BF16")


def test_several_are_the_same_as_one_by_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    families.importance(source, tmp_path / "i.dat")
    flags = ["--quiet", f"--imatrix={tmp_path / 'i.dat'}"]
    encoded, read = Counter[tuple[str, str]](), Counter[str]()
    encode, make = write._encoded, write.made

    def counted(task: write.Task, plan: write.Plan, *rest: object) -> bytes:
        encoded[plan.tensor.name, plan.format] += 1
        return encode(task, plan, *rest)

    def made(task: write.Task, *rows: int) -> list[bytes]:
        read[task.tensor.name] += 1
        return make(task, *rows)

    with monkeypatch.context() as context:
        context.setattr(write, "_encoded", counted)
        context.setattr(write, "made", made)
        out = tmp_path / "{type}.gguf"
        assert quantize.main([f"--mixture={','.join(NAMES)}", *flags, str(source), str(out)]) == 0
    assert set(encoded.values()) == set(read.values()) == {1} and len(read) == len(open_gguf(source).tensors)
    kinds = set()
    for name in NAMES:
        assert quantize.main([f"--mixture={name}", *flags, str(source), str(tmp_path / "one.gguf")]) == 0
        assert (tmp_path / f"{name}.gguf").read_bytes() == (tmp_path / "one.gguf").read_bytes()
        kinds |= {(t.name, t.type_name) for t in open_gguf(tmp_path / "one.gguf").tensors if len(t.shape) > 1}
    assert set(encoded) == kinds
    assert not list(tmp_path.glob("*.part*"))


def test_into_a_folder(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, shards = tmp_path / "out", rewrite.split(tmp_path, "model", rewrite.read(source), 2)
    folder.mkdir()
    assert quantize.main(["--type=Q4_K_M,IQ4_NL,Q4_K_HIFI_M", "--quiet", str(shards[1]), str(folder)]) == 0
    assert {p.name for p in folder.iterdir()} == {f"model-{n}.gguf" for n in ("Q4_K_M", "IQ4_NL", "Q4_K_HIFI_M")}
    # IQ4_NL is a format as well: all matrices are of it, and the mixture has others.
    assert {t.type_name for t in open_gguf(folder / "model-IQ4_NL.gguf").tensors} == {"IQ4_NL", "F32"}
    for flags, out, wanted in [
        (["--mixture=Q8_0,Q4_0"], folder / "x.gguf", "2 files cannot all be"),
        (["--mixture=Q8_0,q8_0"], folder / "{type}.gguf", "would be written twice"),
        (["--mixture=Q8_0,Q8_0"], folder / "{type}.gguf", "names nothing, or one thing twice"),
        (["--mixture=,"], folder / "{type}.gguf", "one of --hifi|names nothing"),
        (["--mixture=Q8_0"], shards[1], "is the source itself"),
    ]:
        before = {path: path.read_bytes() for path in [*folder.iterdir(), *shards]}
        assert quantize.main([*flags, str(shards[0]), str(out)]) == 2
        err = capsys.readouterr().err
        assert any(part in err for part in wanted.split("|")), err
        assert {path: path.read_bytes() for path in [*folder.iterdir(), *shards]} == before


def sizes(source: Path, folder: Path) -> dict[str, int]:
    """What the release's mixtures would be, by their names."""
    names = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
    for name in names:
        assert quantize.main([f"--mixture={name}", "--quiet", str(source), str(folder / f"{name}.gguf")]) == 0
    return {name: (folder / f"{name}.gguf").stat().st_size for name in names}


def chosen(capsys: pytest.CaptureFixture[str]) -> tuple[str, int, float]:
    found = re.search(r"would write [^,]*, (\S+): (\d+) bytes.* ([\d.]+) bits a weight", capsys.readouterr().out)
    assert found is not None
    return found[1], int(found[2]), float(found[3])


def test_files_for_a_size(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = sizes(source, tmp_path)
    for name, size in known.items():
        for limit in (size, size + 1):
            assert quantize.main([f"--target-size={limit}", "--dry-run", str(source)]) == 0
            found, got, _ = chosen(capsys)
            # The largest that is not above: of this size, whatever its name.
            assert got == size or (got > size and got <= limit), (name, found)
        assert quantize.main([f"--target-size={size - 1}", "--dry-run", str(source)]) in (0, 2)
        out = capsys.readouterr().out
        assert not out or int(re.findall(r": (\d+) bytes,", out)[-1]) < size
    assert quantize.main(["--target-bpw=6.0", "--dry-run", str(source)]) == 0
    name, _, bits = chosen(capsys)
    assert bits <= 6.0
    out = tmp_path / "six-{type}.gguf"
    assert quantize.main(["--target-bpw=6.0", "--quiet", str(source), str(out)]) == 0
    assert (tmp_path / f"six-{name}.gguf").exists()


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        ("--target-size=1k", "nothing is so small: the least is "),
        ("--target-size=4x", "is no size, such as 4.5G"),
        ("--target-size=0", "is no size"),
        ("--target-bpw=four", "is no number of bits"),
        ("--target-bpw=0.5", "nothing is so small"),
    ],
)
def test_sizes_that_cannot_be(flag: str, wanted: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main([flag, "--dry-run", str(source)]) == 2
    assert wanted in capsys.readouterr().err


def test_a_card(source: Path, tmp_path: Path) -> None:
    families.importance(source, tmp_path / "i.dat")
    card, out = tmp_path / "card.md", tmp_path / "tiny-{type}.gguf"
    given = ["--mixture=Q4_K_M,Q8_0", f"--imatrix={tmp_path / 'i.dat'}", f"--card={card}", str(source), str(out)]
    assert quantize.main(["--quiet", *given]) == 0
    text = card.read_text()
    for name in ("Q4_K_M", "Q8_0"):
        path = tmp_path / f"tiny-{name}.gguf"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `tiny-{name}.gguf` |"))
        guided = "none" if name == "Q8_0" else "22 of 23 tensors"
        assert f"| {name} | {path.stat().st_size} |" in row and row.endswith(f"| {guided} | `{digest}` |")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("python -m hifi_ref.check")]
    assert len(commands) == 2
    for command in commands:
        code, report, err = run_check(*command[3:], "--ignore=L")
        assert (code, err) == (0, "") and "\nreproduced: every block of every tensor" in report


def test_nothing_that_is_read_is_written_over(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix, out, pipe = tmp_path / "i.dat", tmp_path / "out.gguf", tmp_path / "pipe"
    families.importance(source, matrix)
    os.mkfifo(pipe)
    (tmp_path / "link.dat").symlink_to(matrix)
    before = {path: path.read_bytes() for path in (source, matrix)}
    for card, target, why in [
        (out, out, "it would be written twice"),
        (source, out, "it is read as well"),
        (matrix, out, "it is read as well"),
        (tmp_path / "link.dat", out, "it is read as well"),
        (tmp_path / "card.md", matrix, "it is read as well"),
        (tmp_path / "card.md", pipe, "it is no regular file"),
    ]:
        given = ["--mixture=Q4_0", f"--imatrix={matrix}", f"--card={card}", str(source), str(target)]
        assert quantize.main(given) == 2
        assert capsys.readouterr().err.endswith(f": {why}\n")
        assert {path: path.read_bytes() for path in before} == before
        assert not out.exists() and not (tmp_path / "card.md").exists() and not list(tmp_path.glob("*.part*"))
