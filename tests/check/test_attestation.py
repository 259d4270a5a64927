"""`check --attest`: a statement of what was seen, with digests that anyone finds, whatever the verdict."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref.check.attestation import PREDICATE, SCHEMA_FILE
from hifi_ref.model_files.gguf_file import open_gguf
from tests.check import rewrite
from tests.hostile import build, run_check
from tests.paths import SAMPLE

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


def attest(path: Path, target: Path, *flags: str) -> tuple[int, dict, str]:
    """Exit code, the statement, which keeps to its schema, and the text."""
    code, out, err = run_check(path, f"--attest={target}", *flags)
    assert err == "", err
    statement = json.loads(target.read_text())
    jsonschema.validate(statement, json.loads(SCHEMA_FILE.read_text()))
    return code, statement, out


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_it_states(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    code, statement, out = attest(SAMPLE, target, "--quiet")
    whole, gguf = SAMPLE.read_bytes(), open_gguf(SAMPLE)
    assert (code, statement["predicateType"]) == (0, PREDICATE)
    assert statement["subject"] == [{"name": "sample.gguf", "digest": {"sha256": sha256(whole)}}]
    predicate = statement["predicate"]
    (file,) = predicate["files"]
    assert (file["size"], file["sha256"]) == (len(whole), sha256(whole))
    assert [(t["name"], t["type"], tuple(t["shape"])) for t in file["tensors"]] == [
        (t.name, t.type_name, t.shape) for t in gguf.tensors
    ]
    for entry, t in zip(file["tensors"], gguf.tensors, strict=True):
        assert entry["sha256"] == sha256(whole[t.start : t.start + t.known_nbytes])
    assert predicate["verdict"] == {"kind": "sound", "reason": "no findings", "sentence": ""}
    assert (predicate["blocks"], predicate["source"], predicate["flags"]) == (4864, None, {})
    assert predicate["versions"]["numpy"] == np.__version__ and predicate["loading"]["kind"] == "loads"
    assert out.endswith(f"\n\nattested: {target} says: sound: no findings\n")


def test_digests_of_metadata(tmp_path: Path) -> None:
    """Of kind, count and bytes, as docs/attestation.md has it, in both byte orders."""
    metadata = [("a", 4, 7), ("b", 8, b"text"), ("c", 9, [1, 2, 3]), ("d", 7, 1)]
    for order in "<>":
        path = tmp_path / "f.gguf"
        path.write_bytes(build([("t", 0, (8,), bytes(range(32)))], metadata, order))
        (file,) = attest(path, tmp_path / "a.json")[1]["predicate"]["files"]

        def number(value: int, size: int, order: str = order) -> bytes:
            return value.to_bytes(size, "little" if order == "<" else "big")

        assert file["metadata"] == {
            "a": sha256(b"u32\0" + number(7, 4)),
            "b": sha256(b"string\0" + number(4, 8) + b"text"),
            "c": sha256(b"u32[3]\0" + b"".join(number(n, 4) for n in (1, 2, 3))),
            "d": sha256(b"bool\0\1"),
        }


def test_it_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(EPOCH.items())))
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        assert attest(SAMPLE, path)[1]["predicate"]["date"] == "2023-11-14T22:13:20Z"
    assert paths[0].read_bytes() == paths[1].read_bytes() == run_check(SAMPLE, "--attest")[1].encode()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    wanted = "SOURCE_DATE_EPOCH is yesterday, which is no number of seconds since 1970"
    assert run_check(SAMPLE) == (2, "", f"hifi_ref.check: {wanted}\n")


def test_what_is_not_sound_is_attested_loudly(tmp_path: Path) -> None:
    """Also where the file is cut off, and tensors have no digest."""
    whole, tensors = SAMPLE.read_bytes(), open_gguf(SAMPLE).tensors
    path, target = tmp_path / "f.gguf", tmp_path / "a.json"
    damaged = bytearray(whole)
    damaged[tensors[0].start + 208 : tensors[0].start + 210] = b"\x00\x7e"
    for data, kind, readable in [(damaged, "broken: non-finite scale (1)", 21), (whole[:300000], "broken: tensor", 11)]:
        path.write_bytes(data)
        code, statement, out = attest(path, target, "--quiet")
        assert code == 1 and f"\nATTESTED AS BROKEN: {target} says: {kind}" in out
        predicate = statement["predicate"]
        assert predicate["verdict"]["kind"] == "broken" and predicate["counts"]
        assert sum(t["sha256"] is not None for t in predicate["files"][0]["tensors"]) == readable
        assert statement["subject"][0]["digest"]["sha256"] == sha256(bytes(data))
    path.write_bytes(whole + b"x")
    assert "\nATTESTED AS NOT SOUND: " in attest(path, target)[2]


def test_tensors_in_any_order_and_gaps(tmp_path: Path) -> None:
    """The file's digest is that of all its bytes, wherever tensors lie."""
    data = bytearray(build([("a", 0, (64,), bytes(range(256))), ("b", 0, (64,), bytes(range(256))[::-1])]))
    gguf = open_gguf_bytes(tmp_path, bytes(data))
    for tensor, offset in zip(gguf.tensors, (1 << 20, 0), strict=True):
        at = tensor.entry_at + 8 + 1 + 4 + 8 + 4
        data[at : at + 8] = offset.to_bytes(8, "little")
    data += bytes(range(256)) * ((1 << 12) + 1)
    path = tmp_path / "f.gguf"
    path.write_bytes(data)
    statement = attest(path, tmp_path / "a.json")[1]
    assert statement["subject"][0]["digest"]["sha256"] == sha256(bytes(data))
    start = gguf.data_start or 0
    digests = [t["sha256"] for t in statement["predicate"]["files"][0]["tensors"]]
    assert digests == [sha256(data[at : at + 256]) for at in (start + (1 << 20), start)]


def open_gguf_bytes(tmp_path: Path, data: bytes):
    path = tmp_path / "first.gguf"
    path.write_bytes(data)
    return open_gguf(path)


def test_the_source_and_the_importance_matrix(tmp_path: Path, folder: Path) -> None:
    flags = [f"--source={folder / 'f32.gguf'}", f"--imatrix={folder / 'imatrix.dat'}"]
    code, statement, out = attest(folder / "weighted.gguf", tmp_path / "a.json", *flags)
    predicate = statement["predicate"]
    assert (code, predicate["verdict"]["kind"]) == (0, "reproduced"), out
    assert predicate["flags"] == {"source": "f32.gguf", "imatrix": "imatrix.dat"}
    source = predicate["source"]
    for file, name in ((source["files"][0], "f32.gguf"), (source["imatrix"], "imatrix.dat")):
        content = (folder / name).read_bytes()
        assert file == {"name": name, "size": len(content), "sha256": sha256(content)}
    assert source["outcomes"] == {"reproduced": 12} and source["blocks_compared"] == source["blocks"] == 2816
    assert source["encoded_on"] and source["importance"]["used"] == 9
    flags = [f"--source={folder / 'f32.gguf'}", "--sample=4", "--seed=3", "--profile=strict", "--ignore=L"]
    predicate = attest(folder / "15.gguf", tmp_path / "a.json", *flags)[1]["predicate"]
    assert predicate["verdict"]["kind"] == "compared in part"
    stated = {"source": "f32.gguf", "sample": 4, "seed": 3, "profile": "strict", "ignore": ["L"]}
    assert predicate["flags"] == stated


def test_shards_are_one_model(tmp_path: Path) -> None:
    shards = rewrite.split(tmp_path, "m", rewrite.read(SAMPLE), 3)
    statement = attest(shards[1], tmp_path / "a.json")[1]
    assert statement["subject"] == [
        {"name": path.name, "digest": {"sha256": sha256(path.read_bytes())}} for path in shards
    ]


def test_reports_carry_the_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and the page; the text alone is not kept waiting for them."""
    from hifi_ref.check import look

    digest = sha256(SAMPLE.read_bytes())
    assert run_check(SAMPLE, f"--json={tmp_path / 'r.json'}", f"--html={tmp_path / 'r.html'}")[0] == 0
    report, page = json.loads((tmp_path / "r.json").read_text()), (tmp_path / "r.html").read_text()
    assert report["files"][0]["sha256"] == digest and digest in page
    tensors = attest(SAMPLE, tmp_path / "a.json")[1]["predicate"]["files"][0]["tensors"]
    assert [t["sha256"] for t in report["tensors"]] == [t["sha256"] for t in tensors]
    assert page.count('title="SHA-256 ') == 21 and report["date"] in page
    monkeypatch.setattr(look, "Hashing", lambda *_: pytest.fail("hashed"))
    assert run_check(SAMPLE)[0] == 0


def test_usage(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    for flags, message in [
        (["--structure-only"], "--attest needs the blocks, which --structure-only leaves out"),
        ([__file__], "--attest states what one model is, and 2 are given"),
    ]:
        code, out, err = run_check(SAMPLE, f"--attest={target}", *flags)
        assert (code, out, err) == (2, "", f"hifi_ref.check: {message} (--help tells the usage)\n")
    assert not target.exists()
