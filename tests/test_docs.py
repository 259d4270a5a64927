"""The documents say what is so: every console and example is run, every page is in the index, every path is there."""

from __future__ import annotations

import doctest
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from hifi_ref.conform import command as conform
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.ground import command as ground
from hifi_ref.model_files.gguf_file import open_gguf
from reference import fetch
from tests.hostile import run_check
from tools import make_sample

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SAMPLE = ROOT / "tests" / "data" / "sample.gguf"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "golden" / "README.md"])
# Folders of the repository, with which a path in a document begins.
FOLDERS = "hifi_ref|golden|tests|tools|bench|docs|reference|\\.ci|\\.github"
# Consoles whose commands other tests run: those of conform, its plugin and its examples.
RUN_ELSEWHERE = {
    "using-conform.md": ("python -m hifi_ref.conform python:my_kernels --formats=Q4_0", "pytest --hifi-ref-target="),
    "porting.md": ("python -m hifi_ref.conform exec:./decode_q4_k",),
}


def consoles(page: Path) -> dict[str, str]:
    """Command -> output, of a page's console blocks."""
    return dict(re.findall(r"```console\n\$ ([^\n]*)\n(.*?)```", page.read_text(), re.DOTALL))


# CONSOLES AND EXAMPLES


def make_files(folder: Path) -> None:
    """The files that docs/check.md speaks of."""
    (folder / "tests").symlink_to(ROOT / "tests")
    whole = SAMPLE.read_bytes()
    tensor = next(t for t in open_gguf(SAMPLE).tensors if t.type_name == "Q4_K")
    at = tensor.start + 7 * tensor.type.type_size
    (folder / "nan-scale.gguf").write_bytes(whole[:at] + b"\x00\x7e" + whole[at + 2 :])
    (folder / "truncated.gguf").write_bytes(whole[:300000])
    (folder / "text.gguf").write_text("hello\n")

    make_sample.write_model(folder / "model-F32.gguf", layers=1)
    path = folder / "model-Q4_K_M.gguf"
    assert make_sample.quantize(fetch.library_dir(), folder / "model-F32.gguf", path, 15, weighted=False) == 0
    damaged = bytearray(path.read_bytes())
    tensor = next(t for t in open_gguf(path).tensors if t.name == "blk.0.ffn_up.weight")
    damaged[tensor.start + 17 * tensor.type.type_size + 20] ^= 0x40
    (folder / "damaged.gguf").write_bytes(damaged)


def test_the_output_of_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    for page, number in (("check.md", 6), ("attestation.md", 3)):
        shown = consoles(DOCS / page)
        assert len(shown) == number
        for command, output in shown.items():
            _, out, err = run_check(*command.removeprefix("python -m hifi_ref.check ").split())
            # Whether so small a model is worth JAX depends on what was compiled before.
            assert re.sub(r"(?<=again on: )cpu .*", "cpu (JAX)", out + err) == output


def test_the_output_of_conform(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {command: out for command, out in consoles(DOCS / "using-conform.md").items() if " gguf-py " in command}
    assert len(shown) == 1
    for command, output in shown.items():
        assert conform.main(command.removeprefix("python -m hifi_ref.conform ").split()) == 0
        # The last line and the version of gguf-py depend on the machine.
        lines = capsys.readouterr().out.splitlines()
        shown_lines = output.splitlines()
        assert lines[1:-1] == shown_lines[1:-1]
        assert lines[-1].split("; ")[1] == shown_lines[-1].split("; ")[1], "the digest of the vectors"


def test_the_output_of_ground(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, but for the first line, which is the machine's. tests/test_kernels.py runs the kernels themselves."""
    (output,) = consoles(DOCS / "kernels.md").values()
    monkeypatch.setattr(ground, "wrong_kernels", lambda backend: ())
    assert not ground.report(["cpu"], kernels=True)
    assert capsys.readouterr().out.splitlines()[1:] == output.splitlines()[1:]


def test_no_console_is_left_out() -> None:
    """A page with a console is in one of the tests above, or its commands are named as run elsewhere."""
    for page in PAGES:
        commands = [c for c in consoles(page) if not c.startswith(RUN_ELSEWHERE.get(page.name, "-"))]
        run_here = {"check.md": 6, "attestation.md": 3, "using-conform.md": 1, "kernels.md": 1}
        assert len(commands) == run_here.get(page.name, 0), page
        assert page.read_text().count("```console\n") == len(consoles(page)), page


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()], ids=lambda page: page.name)
def test_the_examples(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted >= 4 and result.failed == 0


# WHAT IS SAID


def test_what_c_leaves_undefined() -> None:
    text = (DOCS / "undefined.md").read_text()
    modules = {name: import_module(f"hifi_ref.formats.{name.lower()}") for name in LLAMA_CPP}
    undefined = {name for name, module in modules.items() if "undefined" in str(module.__doc__).lower()}
    assert undefined == set(re.findall(r"\b(?:T?Q\d\w*|MXFP4)\b", text.split("The release's encoders")[0]))


def test_the_counts_of_the_vectors() -> None:
    files = json.loads((ROOT / "golden" / "index.json").read_text())["files"]
    counts = f"{len(files)} files, {sum(entry['tests'] for entry in files):,}\ntests"
    assert counts in (ROOT / "golden" / "README.md").read_text()


def test_the_index_names_every_page() -> None:
    named = re.findall(r"^\| \[([\w.-]+)\]\(\1\) \| \S", (DOCS / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")
    judged = (DOCS / "conformance.md").read_text()
    assert all(f"(conformance/{page.name})" in judged for page in (DOCS / "conformance").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """What a link into the page may end in: its headings, as hosts of Markdown spell them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


def missing(page: Path) -> list[str]:
    """Links, paths and modules in a page that lead nowhere."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = []
    for path, anchor in re.findall(r"\]\(([^)\s:#]*)(?:#([\w-]+))?\)", text):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{path}#{anchor}")
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)`", text)
    found += [path for path in paths if "NAME" not in path and not any(ROOT.glob(path.rstrip("/")))]
    for module in re.findall(rf"python -m ((?:{FOLDERS})[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        if "NAME" not in module and not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
            found.append(module)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    assert missing(page) == []


def test_what_leads_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A head\n[x](y.md) [z](#a-head) [w](#no-head) `hifi_ref/nothing.py` `python -m tools.nothing`")
    assert missing(page) == ["y.md#", "#no-head", "hifi_ref/nothing.py", "tools.nothing"]


def table(page: str) -> list[list[str]]:
    """The cells of a page's table, without its head."""
    rows = [line[2:-2].split(" | ") for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return rows[1:]


def test_the_files_of_the_kernels() -> None:
    """kernels.md has a line for each."""
    section = (DOCS / "kernels.md").read_text().split("## How a product is made")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+\.py)`", "".join(line for line in section.splitlines() if line.startswith("| "))))
    assert named == {path.name for path in (ROOT / "hifi_ref" / "kernels").glob("*.py")} - {"__init__.py"}


def test_where_to_look() -> None:
    """Each name stands in the file that is named after it."""
    found = []
    for _, answer in table("rooms.md"):
        for names, path in re.findall(r"((?:`\w+`(?:, | and )?)+) in `([\w./]+)`", answer):
            found += [(name, path) for name in re.findall(r"\w+(?=`)", names)]
    assert len(found) >= 20
    for name, path in found:
        assert re.search(rf"^(?:def |class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE), (name, path)


def test_what_is_written_by_hand_is_there() -> None:
    """Each row has a place, which test_links_and_paths_lead_somewhere finds, and a reason."""
    rows = table("handwritten.md")
    assert len(rows) >= 20
    for row in rows:
        assert len(row) == 4 and all(map(str.strip, row)) and re.search(r"`[\w/]+(?:/|\.py)`", row[1]), row
