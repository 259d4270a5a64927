"""Files at an address: what is found, what is fetched for it, and what is kept on the disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hifi_ref.check import look
from hifi_ref.model_files import gguf_file, remote
from tests import sources
from tests.check import rewrite
from tests.check.injuries import INJURIES, Patient, Sound
from tests.check.server import REPOSITORY, Server, serving
from tests.hostile import build, run_check
from tests.paths import SAMPLE


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of what lies in tmp_path/served, and small requests, so that small files take many."""
    monkeypatch.setattr(remote, "BLOCK", 4096)
    monkeypatch.setattr(remote, "PIECE", 1 << 16)
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    monkeypatch.setattr(gguf_file, "REMOTE_HEAD", 4096)
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


def placed(server: Server, path: Path, name: str = "m.gguf") -> str:
    """Copy a file to the server; its address."""
    shutil.copy(path, server.folder / name)
    return f"{server.url}/{name}"


def report_of(path: Path | str, *flags: str) -> dict:
    """The JSON, without what is the file's address and the time's."""
    code, out, err = run_check(path, "--json", *flags)
    assert err == "" and code in (0, 1), err
    report = json.loads(out)
    del report["date"], report["path"], report["files"][0]["path"]
    return report


def test_the_same_report_as_of_a_local_file(served: Server) -> None:
    url = placed(served, SAMPLE)
    report = report_of(url)
    assert report == report_of(SAMPLE) and report["sound"]
    # Each byte but those of the blocks in which tensors meet came once.
    assert served.sent < 1.5 * SAMPLE.stat().st_size
    assert report_of(f"{url}?download=true") == report


TORN = [
    "a lost page of Q4_K", "a hole over several tensors", "an end that was never written", "no data",
    "a page of Q4_K written twice", "pages written twice", "a page of one tensor in another",
    "a page of one type in another", "a matrix of another layer", "a matrix of another role", "a page of text",
    "two pages exchanged", "a norm that is zero", "a flipped bit in F16",
]  # fmt: skip


@pytest.mark.parametrize("kind", TORN)
def test_damage_is_found(tmp_path: Path, sound: Callable[[str], Sound], served: Server, kind: str) -> None:
    """What is looked at again at the end is fetched again."""
    name, injure, expected = INJURIES[kind]
    patient = Patient(sound(name).path)
    injure(patient)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(patient.data)
    report = report_of(placed(served, path))
    assert expected <= set(report["counts"]) and report == report_of(path)


@pytest.mark.parametrize("change", ["cut", "cut in the metadata", "padding", "behind"])
def test_what_is_wrong_with_the_structure(tmp_path: Path, served: Server, change: str) -> None:
    data = bytearray(build([("a", 0, (9,), bytes(36)), ("b", 0, (40_000,), bytes(160_000))], [("k", 4, 1)]))
    path = tmp_path / "f.gguf"
    if change == "padding":
        data[gguf_file.open_gguf(_written(path, data)).tensors[0].start + 40] = 1
    data = {"cut": data[:-9999], "cut in the metadata": data[:40], "behind": data + b"x"}.get(change, data)
    report = report_of(placed(served, _written(path, data)))
    assert report["counts"] and report == report_of(path)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_vocabulary_longer_than_the_first_request(tmp_path: Path, served: Server) -> None:
    content = rewrite.read(SAMPLE)
    words = [f"token number {i}" for i in range(20_000)]
    content.metadata["tokenizer.ggml.tokens"] = (words, *content.metadata["tokenizer.ggml.tokens"][1:])
    path = rewrite.write(tmp_path / "f.gguf", content)
    assert report_of(placed(served, path)) == report_of(path)


def test_structure_only_fetches_a_few_bytes(tmp_path: Path, served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than one per cent of a file of 4 GB, and the verdict does not say sound."""
    monkeypatch.undo()
    nbytes = 4 << 30
    head = build([("t", 0, (nbytes // 4,), b"")], [("general.architecture", 8, b"llama")])
    with open(served.folder / "large.gguf", "wb") as file:
        file.write(head)
        file.truncate(len(head) + nbytes)
    code, out, err = run_check(f"{served.url}/large.gguf", "--structure-only", "--ignore=L", "--quiet")
    assert (code, err) == (0, "")
    assert "\nstructure only: no findings, and no block was looked at; ignored: " in out
    assert "1 tensor, 0 blocks looked at" in out and served.sent < nbytes // 1000
    report = json.loads(run_check(f"{served.url}/large.gguf", "--structure-only", "--json", "--ignore=L")[1])
    assert (report["sound"], report["verdict"]["kind"], report["files"][0]["sha256"]) == (False, "structure only", None)


def test_structure_only_of_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "check_payload", lambda *_: pytest.fail("a block was looked at"))
    code, out, _ = run_check(SAMPLE, "--structure-only", "--quiet")
    assert code == 0 and "\nstructure only: no findings, and no block was looked at\n" in out and "sound" not in out
    assert "\nloading: loads, architecture llama" in out
    path = _written(tmp_path / "f.gguf", SAMPLE.read_bytes()[:-100])
    assert run_check(path, "--structure-only")[0] == 1


def test_the_disk_is_given_back(tmp_path: Path, served: Server) -> None:
    path = tmp_path / "f.gguf"
    rng = bytes(range(256)) * (1 << 14)
    path.write_bytes(build([(f"t{i}", 0, (1 << 20,), rng) for i in range(4)]))
    kept = []

    class Watched(remote.RemoteMap):
        def _let_go(self, first: int, last: int) -> None:
            super()._let_go(first, last)
            kept.append(512 * os.fstat(self._file.fileno()).st_blocks)

    data = Watched(placed(served, path))
    for start in range(0, len(data), 1 << 20):
        with data.held(start, start + (1 << 20)):
            assert data[start : start + (1 << 20)] == path.read_bytes()[start : start + (1 << 20)]
    assert max(kept) <= 1 << 17 and data.fetched == len(data)
    # What two hold stays until the last lets it go.
    with data.held(0, 8192):
        with data.held(0, 8192):
            pass
        assert data[:8192] == path.read_bytes()[:8192] and data.fetched == len(data) + 8192


def test_the_source_and_the_file_at_addresses(
    tmp_path: Path, folder: Path, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, source = placed(served, folder / "weighted.gguf"), placed(served, folder / "f32.gguf", "f32.gguf")
    imatrix = placed(served, folder / "imatrix.dat", "imatrix.dat")
    flags = [f"--source={folder / 'f32.gguf'}", f"--imatrix={folder / 'imatrix.dat'}"]
    local = run_check(folder / "weighted.gguf", *flags)
    for file, given in [(url, flags), (url, [f"--source={source}", f"--imatrix={imatrix}"])]:
        code, out, err = run_check(file, *given)
        assert (code, err) == (0, "")
        assert out.replace("m.gguf", "weighted.gguf").split("\n")[1:] == local[1].split("\n")[1:]
    report = report_of(url, f"--source={source}", "--sample=8", "--ignore=E", "--ignore=L")
    assert report["source"]["files"][0]["name"] == "f32.gguf"
    before = served.sent
    report_of(url, *flags, "--tensors=attn_q")
    assert served.sent - before < 1.5 * (folder / "weighted.gguf").stat().st_size + (1 << 18)
    monkeypatch.chdir(tmp_path)
    assert run_check(url, *flags, "--resume")[0] == 0 and not list(tmp_path.glob("*.state"))
    shards = rewrite.split(served.folder, "s", rewrite.read(folder / "f32.gguf"), 2)
    assert run_check(folder / "15.gguf", f"--source={served.url}/{shards[1].name}")[0] == 0


def test_a_checkpoint_at_an_address(folder: Path, served: Server) -> None:
    """Its index, or a file of it, or a folder; what the index does not name is not fetched."""
    import fsspec

    tensors = list(sources.checkpoint().items())
    parts = {"a.safetensors": tensors[:5], "b.safetensors": tensors[5:]}
    index = {"weight_map": {n: file for file, part in parts.items() for n, _ in part}}
    files = {
        name: sources.safetensors({n: sources.as_dtype(x, "F32") for n, x in part}) for name, part in parts.items()
    }
    files |= {"model.safetensors.index.json": json.dumps(index).encode(), "config.json": b"{}"}
    memory = fsspec.filesystem("memory")
    for name, content in (files | {"consolidated.safetensors": b"not read"}).items():
        (served.folder / name).write_bytes(content)
        memory.pipe(f"/model/{name}", content)
    for url in (f"{served.url}/model.safetensors.index.json", "memory://model"):
        report = report_of(folder / "15.gguf", f"--source={url}")
        assert report["source"]["outcomes"] == {"reproduced": 12} and report["source"]["path"] == url
        assert {file["name"] for file in report["source"]["files"]} == set(files)
    memory.rm("/model", recursive=True)
    wanted = f"cannot read {served.url}/c.safetensors: there is no such file"
    assert refused(str(folder / "15.gguf"), f"--source={served.url}/c.safetensors") == wanted


def test_a_damaged_file_at_an_address_against_its_source(tmp_path: Path, folder: Path, served: Server) -> None:
    data = bytearray((folder / "15.gguf").read_bytes())
    data[gguf_file.open_gguf(folder / "15.gguf").tensors[5].start + 144 * 9 + 20] ^= 0x40
    url = placed(served, _written(tmp_path / "f.gguf", data))
    assert report_of(url, f"--source={folder / 'f32.gguf'}")["counts"] == {"E010": 1}


def test_attested_and_verified(tmp_path: Path, served: Server) -> None:
    url, statement = placed(served, SAMPLE), tmp_path / "a.json"
    assert run_check(url, f"--attest={statement}")[0] == 0
    assert run_check(SAMPLE, f"--verify={statement}")[0] == 0
    local = tmp_path / "b.json"
    run_check(SAMPLE, f"--attest={local}")
    code, out, err = run_check(url, f"--verify={local}")
    assert (code, err) == (0, "") and "\nthe same: every byte of 1 file " in out
    (served.folder / "m.gguf").write_bytes(SAMPLE.read_bytes()[:-40000] + bytes(40000))
    code, out, _ = run_check(url, f"--verify={local}")
    assert code == 1 and "  tensor blk.1.ffn_up.weight: its data differs\n" in out


def test_shards(tmp_path: Path, served: Server) -> None:
    shards = rewrite.split(served.folder, "m", rewrite.read(SAMPLE), 3)
    code, out, _ = run_check(f"{served.url}/{shards[1].name}", "--quiet")
    assert code == 0 and "\nrests on: 3 files, 21 tensors" in out
    shards[2].unlink()
    assert "error S001" in run_check(f"{served.url}/{shards[0].name}")[1]


def test_a_folder_of_another_file_system() -> None:
    """Whatever fsspec reads: the memory of this process here."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("a.gguf", "b.gguf", "notes.txt"):
        memory.pipe(f"/folder/{name}", SAMPLE.read_bytes())
    try:
        code, out, err = run_check("memory://folder")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()[1:]] == [
            "memory://folder/a.gguf",
            "memory://folder/b.gguf",
        ]
        assert report_of("memory://folder/a.gguf") == report_of(SAMPLE)
        memory.pipe("/empty/notes.txt", b"x")
        wanted = "memory://empty is a folder, and there is no .gguf file in it"
        assert run_check("memory://empty") == (2, "", f"hifi_ref.check: {wanted}\n")
    finally:
        memory.rm("/folder", recursive=True)
        memory.rm("/empty", recursive=True)


def test_the_hub(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub's own file system, which asks a server that stands in for the hub."""
    import huggingface_hub.constants

    # What HF_ENDPOINT would set before the package is imported.
    constants, files = huggingface_hub.constants, "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + files)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    placed(served, SAMPLE)
    (served.folder / "README.md").write_text("not looked at")
    url = f"hf://{REPOSITORY}/m.gguf"
    assert report_of(url) == report_of(SAMPLE) and served.sent < 1.5 * SAMPLE.stat().st_size
    code, out, err = run_check(f"hf://{REPOSITORY}", "--structure-only", "--quiet")
    assert (code, err) == (0, "") and out.startswith(f"{url}: GGUF v3, ")
    assert (
        refused(f"hf://{REPOSITORY}/absent.gguf") == f"cannot read hf://{REPOSITORY}/absent.gguf: there is no such file"
    )
    served.tags = ["a", "b"]

    def change(*_: object) -> None:
        served.tags = ["b"]

    monkeypatch.setattr(look, "check_payload", change)
    assert refused(url) == f"{url} was changed while it was read: check it again"
    assert refused("hf://owner/another/m.gguf").startswith("cannot read hf://owner/another/m.gguf: ")
    huggingface_hub.HfFileSystem.clear_instance_cache()


# WHAT GOES WRONG


def refused(url: str, *flags: str) -> str:
    code, out, err = run_check(url, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("hifi_ref.check: "), (code, out, err)
    return err.removeprefix("hifi_ref.check: ").rstrip("\n")


def test_what_breaks_off_is_asked_for_again(served: Server) -> None:
    url = placed(served, SAMPLE)
    served.breaks = 3
    assert report_of(url) == report_of(SAMPLE) and served.breaks == 0
    served.breaks = 1000
    sentence = refused(url)
    assert sentence.startswith(f"cannot read {url}: bytes 0 to 4096 did not come, asked for 4 times (")


def test_a_server_that_is_slow_or_silent(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = placed(served, SAMPLE)
    monkeypatch.setattr(remote, "SILENCE", 0.5)
    served.silences = [0.05, 1.5, 0.0]
    assert report_of(url) == report_of(SAMPLE) and served.silences == [0.0]
    served.silences = [1.5]
    assert refused(url).startswith(f"cannot read {url}: bytes 0 to 4096 did not come, asked for 4 times (")


def test_a_server_without_ranges(served: Server) -> None:
    url = placed(served, SAMPLE)
    served.ranges = False
    wanted = f"cannot read {url}: its server serves no ranges, so fetch it and check the copy"
    assert refused(url) == wanted and served.sent < 4 << 20
    served.ranges, served.sized = True, False
    assert refused(url) == f"cannot read {url}: its server does not tell its size, so fetch it and check the copy"


def test_a_file_that_changes_meanwhile(served: Server) -> None:
    url = placed(served, SAMPLE)
    served.tags = [*["a"] * 5, "b"]
    assert refused(url) == f"{url} was changed while it was read: check it again"
    served.tags = ["a"]

    def shrink(*arguments: object) -> None:
        (served.folder / "m.gguf").write_bytes(SAMPLE.read_bytes()[:100_000])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "judge_loading", shrink)
        patch.setattr(look, "check_payload", shrink)
        assert refused(url) == f"{url} was changed while it was read: check it again"


def test_what_is_not_there(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{served.url}/absent.gguf"
    assert refused(url) == f"cannot read {url}: there is no such file"
    assert refused(str(SAMPLE), f"--source={url}") == f"cannot read {url}: there is no such file"
    for name, content, sentence in [
        ("text.gguf", b"hello", "is no GGUF: it starts with b'hell', not b'GGUF'"),
        ("empty.gguf", b"", "is empty"),
    ]:
        (served.folder / name).write_bytes(content)
        assert refused(f"{served.url}/{name}").endswith(sentence)
    served.status = 503
    assert refused(url).startswith(f"cannot read {url}: 503")
    assert refused("nothing://x/f.gguf").startswith("cannot read nothing://x/f.gguf: Protocol not known: nothing")
    address = served.url.replace(f":{served.server_port}", ":1")
    assert refused(f"{address}/f.gguf").startswith(f"cannot read {address}/f.gguf: Cannot connect to host")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    wanted = f"cannot read {url}: that needs fsspec, pip install 'hifi-ref[remote]'"
    assert refused(url) == wanted


def test_who_cannot_read_addresses_says_so(tmp_path: Path, served: Server) -> None:
    from hifi_ref.quantize.command import main

    url = placed(served, SAMPLE)
    with pytest.raises(gguf_file.GgufError, match="is an address: fetch the file, and give the copy"):
        gguf_file.open_gguf(url)
    assert main([url, str(tmp_path / "out.gguf"), "--type=Q4_0"]) == 2 and not (tmp_path / "out.gguf").exists()


def test_metadata_without_an_end(tmp_path: Path, served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A length that reaches over a large file is not followed for ever."""
    monkeypatch.setattr(gguf_file, "REMOTE_HEADER", 1 << 18)
    data = build([("t", 0, (1 << 20,), bytes(4 << 20))], [("k", 8, b"text")])
    at = data.index(b"text") - 8
    url = placed(served, _written(tmp_path / "f.gguf", data[:at] + (3 << 20).to_bytes(8, "little") + data[at + 8 :]))
    assert refused(url) == f"{url}: the metadata do not end within {1 << 18} bytes: fetch the file"
    assert served.sent < 1 << 19


def test_a_full_disk(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    url = placed(served, SAMPLE)
    monkeypatch.setattr(os, "pwrite", full)
    sentence = refused(url)
    assert sentence.startswith(f"cannot keep what comes of {url} in ") and sentence.endswith("No space left on device")
