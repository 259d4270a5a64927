"""The README says what is so: its table of formats, its examples, its output, its list of what C leaves undefined."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

from hifi_ref.conform import command as conform
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.model_files.gguf_file import open_gguf
from tests.hostile import run_check

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SAMPLE = ROOT / "tests" / "data" / "sample.gguf"


def format_table() -> str:
    """The rows of the README's table of formats."""
    rows = []
    for f in LLAMA_CPP.values():
        offered = {"decode": f.decode, "encode": f.encode, "dot": f.dot}
        names = ", ".join(name + "*" * (name == "encode" and f.requires_weights) for name in offered if offered[name])
        bits = f"{f.layout.bits_per_weight:.6g}"
        rows.append((f.name, f.type_id, f.block_size, f.type_size, bits, names, f.dot_with or "-"))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def sessions(command: str) -> dict[str, str]:
    """Arguments -> output, of the console blocks with that command."""
    block = rf"```console\n\$ python -m hifi_ref\.{command} ([^\n]*)\n(.*?)```"
    return dict(re.findall(block, README.read_text(), re.DOTALL))


def test_the_table_of_formats() -> None:
    assert f"|\n{format_table()}\n\n" in README.read_text()


def test_the_examples() -> None:
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 8 and result.failed == 0


def test_the_output_of_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SAMPLE.read_bytes()
    tensor = next(t for t in open_gguf(SAMPLE).tensors if t.type_name == "Q4_K")
    at = tensor.start + 7 * tensor.type.type_size
    (tmp_path / "nan-scale.gguf").write_bytes(whole[:at] + b"\x00\x7e" + whole[at + 2 :])
    (tmp_path / "truncated.gguf").write_bytes(whole[:300000])
    (tmp_path / "text.gguf").write_text("hello\n")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    shown = sessions("check")
    assert len(shown) == 4
    for arguments, output in shown.items():
        _, out, err = run_check(*arguments.split())
        assert out + err == output


def test_the_output_of_conform(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, output in sessions("conform").items():
        assert conform.main(arguments.split()) == 1
        # The last line and the version of gguf-py depend on the machine.
        lines = capsys.readouterr().out.splitlines()
        assert lines[1:-1] == output.splitlines()[1:-1]


def test_what_c_leaves_undefined() -> None:
    section = README.read_text().split("## What C leaves undefined")[1].split("## ")[0]
    modules = {name: import_module(f"hifi_ref.formats.{name.lower()}") for name in LLAMA_CPP}
    undefined = {name for name, module in modules.items() if "undefined" in str(module.__doc__).lower()}
    assert undefined == set(re.findall(r"\b(?:T?Q\d\w*|MXFP4)\b", section.split("The release's encoders")[0]))


def test_two_commands_do_all_set_up() -> None:
    assert len(re.findall(r"```bash\n", README.read_text())) == 2
