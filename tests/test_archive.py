"""The archive of the vectors: the same bytes each time, whole, and of use alone; and the snippets of docs/ci.md."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hifi_ref
from golden import archive
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "ci.md").read_text()
FOLDER = f"hifi-ref-vectors-{hifi_ref.__version__}"


def made(path: Path, umask: int = 0o022) -> list[str]:
    before = os.umask(umask)
    try:
        words = [sys.executable, "-m", "golden.archive", str(path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    finally:
        os.umask(before)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As docs/ci.md unpacks it: a folder with vectors/."""
    folder = tmp_path_factory.mktemp("archive")
    said = made(folder / "hifi-ref-vectors.tar.gz")
    (folder / "hifi-ref-vectors.tar.gz.sha256").write_text(f"{said[0].split()[0]}  hifi-ref-vectors.tar.gz\n")
    subprocess.run(["sh", "-e", "-c", snippets("sh")[0]], cwd=folder, check=True)
    return folder


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    said = made(first), made(second, umask=0o077)
    assert first.read_bytes() == second.read_bytes()
    assert said[0][0] == f"{hashlib.sha256(first.read_bytes()).hexdigest()}  {first}"
    assert said[0][1] == said[1][1]
    assert abs(first.stat().st_size / 1e6 - float(re.search(r"one archive of ([\d.]+) MB", PAGE)[1])) < 0.5


def test_it_cannot_be_written(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "golden.archive", str(tmp_path / "none" / "a.tar.gz")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("a.tar.gz: No such file or directory\n")
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_what_is_in_it(unpacked: Path) -> None:
    vectors = unpacked / "vectors"
    found = {path.relative_to(vectors).as_posix(): path for path in vectors.rglob("*") if path.is_file()}
    manifest = json.loads(found["manifest.json"].read_text())
    assert (manifest["schema"], manifest["version"]) == (archive.SCHEMA, hifi_ref.__version__)
    assert {e["path"] for e in manifest["files"]} == found.keys() - {"manifest.json", "SHA256SUMS"}
    for entry in manifest["files"]:
        data = found[entry["path"]].read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
        at = ROOT / entry["path"] if entry["path"] == "LICENSE" else archive.HERE / entry["path"]
        assert at.read_bytes() == data
    listed = json.loads(found["index.json"].read_text())["files"]
    assert {entry["path"] for entry in listed} <= found.keys()
    assert {"grids.json", "hifi_ref.h", "README.md", "LICENSE", "examples/consume.c"} <= found.keys()
    # No program of ours, and nothing that only the generator reads.
    assert not [name for name in found if name.endswith(".py") and not name.startswith("examples/")]


def test_a_wrong_byte_is_seen(unpacked: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vectors"
    shutil.copytree(unpacked / "vectors", copy)
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=copy, capture_output=True).returncode == 0
    path = copy / "llama.cpp" / "Q4_0.decode.json"
    path.write_text(path.read_text().replace("003c", "013c", 1))
    assert subprocess.run(check, cwd=copy, capture_output=True).returncode == 1


def test_its_examples_run_where_it_is_unpacked(unpacked: Path) -> None:
    for words in ([sys.executable, "-I", "-S", "consume.py"], ["node", "consume.js"]):
        assert subprocess.run(words, cwd=unpacked / "vectors" / "examples", capture_output=True).returncode == 0


# THE SNIPPETS OF docs/ci.md, each with a decoder that is right and with one that is not


def test_c(unpacked: Path) -> None:
    (script,) = [text for text in snippets("sh") if "consume.c" in text]
    assert subprocess.run(["sh", "-e", "-c", script], cwd=unpacked, capture_output=True).returncode == 0
    source = unpacked / "vectors" / "examples" / "consume.c"
    text = source.read_text()
    source.write_text(text.replace("(block[2 + j] >> 4) - 8", "(block[2 + j] >> 4) - 7"))
    done = subprocess.run(["sh", "-e", "-c", script], cwd=unpacked, capture_output=True, text=True)
    source.write_text(text)
    assert done.returncode == 1 and "Q4_0 test" in done.stdout


RUST = """
fn decode_q4_0(blocks: &[u8]) -> Vec<f32> {
    let half = |b: &[u8]| {
        let bits = u16::from_le_bytes([b[0], b[1]]) as u32;
        let (sign, exponent, fraction) = (bits >> 15 << 31, bits >> 10 & 31, bits & 1023);
        let magnitude = if exponent == 0 { fraction as f32 * 2f32.powi(-24) }
            else { f32::from_bits((if exponent == 31 { 255 } else { exponent + 112 }) << 23 | fraction << 13) };
        f32::from_bits(sign | magnitude.to_bits())
    };
    let code = |b: &[u8], j: usize| (b[2 + j % 16] >> (4 * (j / 16)) & 15) as f32 - OFFSET;
    blocks.chunks(18).flat_map(|b| (0..32).map(move |j| half(b) * code(b, j))).collect()
}
"""


@pytest.mark.parametrize("offset", ["8.0", "7.0"])
@pytest.mark.parametrize("rustc", [path for path in [shutil.which("rustc")] if path])
def test_rust(rustc: str, offset: str, unpacked: Path, tmp_path: Path) -> None:
    (snippet,) = snippets("rust")
    (tmp_path / "vectors.rs").write_text(RUST.replace("OFFSET", offset) + snippet)
    words = [rustc, "--test", "--edition=2021", "-o", str(tmp_path / "vectors"), str(tmp_path / "vectors.rs")]
    subprocess.run(words, check=True)
    done = subprocess.run([str(tmp_path / "vectors")], cwd=unpacked, capture_output=True, text=True)
    assert (done.returncode == 0) == (offset == "8.0"), done.stdout


JAVASCRIPT = """
export function decodeQ4_0(blocks) {
  const values = [];
  for (let at = 0; at < blocks.length; at += 18) {
    const bits = blocks.readUInt16LE(at), exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const magnitude = exponent === 31 ? (fraction ? NaN : Infinity)
      : exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    const d = bits & 0x8000 ? -magnitude : magnitude;
    for (let j = 0; j < 32; j++) values.push(d * (((blocks[at + 2 + (j % 16)] >> (j < 16 ? 0 : 4)) & 15) - OFFSET));
  }
  return values;
}
"""


@pytest.mark.parametrize("offset", ["8", "7"])
def test_javascript(offset: str, unpacked: Path, tmp_path: Path) -> None:
    (snippet,) = snippets("js")
    (tmp_path / "vectors.test.mjs").write_text(snippet)
    (tmp_path / "kernels.mjs").write_text(JAVASCRIPT.replace("OFFSET", offset))
    (tmp_path / "vectors").symlink_to(unpacked / "vectors")
    done = subprocess.run(["node", "--test"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) == (offset == "8"), done.stdout


def test_what_is_not_run_says_so() -> None:
    for language, heading in (("go", "Go"), ("swift", "Swift")):
        section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert "Not run here." in section and f"```{language}\n" in section
    assert PAGE.count("Not run here.") == 2
