"""`check --verify`: a download held against a statement, without the source: the same, or what differs, by name."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from hifi_ref.check.attestation import PREDICATE
from hifi_ref.model_files.gguf_file import open_gguf
from tests.check import rewrite
from tests.hostile import run_check
from tests.paths import SAMPLE


@pytest.fixture(scope="module")
def statement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's."""
    path = tmp_path_factory.mktemp("statement") / "a.json"
    assert run_check(SAMPLE, f"--attest={path}")[0] == 0
    return path


def verify(statement: Path, *paths: Path) -> tuple[int, dict[tuple[str, str], str], str]:
    """Exit code, what differs: (kind, name) -> what, and the text."""
    first, *others = map(str, paths)
    code, out, err = run_check(first, *others, f"--verify={statement}")
    assert err == "", err
    report = json.loads(run_check(first, *others, f"--verify={statement}", "--json")[1])
    assert report["schema"] == "hifi_ref.verify/1" and report["signature"] == "not checked"
    assert report["verdict"]["kind"] == ("differs" if code else "the same")
    assert f"\n{report['verdict']['kind']}: {report['verdict']['reason']}\n" in out
    return code, {(d["kind"], Path(d["name"]).name): d["what"] for d in report["differences"]}, out


def test_the_same(tmp_path: Path, statement: Path) -> None:
    code, differences, out = verify(statement, SAMPLE)
    assert (code, differences) == (0, {})
    assert "\nthe same: every byte of 1 file (571136 bytes) is what was attested\n" in out
    assert "; signature not checked here\nattested: sound: no findings\n" in out
    renamed = tmp_path / "model.gguf"
    renamed.write_bytes(SAMPLE.read_bytes())
    code, differences, out = verify(statement, renamed)
    assert (code, differences) == (0, {}) and ", attested as sample.gguf\n" in out


def test_a_changed_tensor_is_named(tmp_path: Path, statement: Path) -> None:
    data, path = bytearray(SAMPLE.read_bytes()), tmp_path / "sample.gguf"
    tensors = open_gguf(SAMPLE).tensors
    for i in (3, 7):
        data[tensors[i].start + 100] ^= 1
    path.write_bytes(data)
    code, differences, out = verify(statement, path)
    file = differences.pop(("file", "sample.gguf"))
    assert code == 1 and file.startswith("has the SHA-256 ")
    assert differences == {("tensor", tensors[i].name): "its data differs" for i in (3, 7)}
    assert "\ndiffers: 1 file, 2 tensors\n" in out


def test_tensors_and_metadata(tmp_path: Path, statement: Path) -> None:
    """Missing, added, of another type, of another shape; metadata likewise."""
    content = rewrite.read(SAMPLE)
    names = list(content.tensors)
    content.tensors["extra.weight"] = content.tensors.pop(names[0])
    content.tensors[names[3]] = content.tensors[names[8]]
    data, kind = content.tensors[names[1]]
    content.tensors[names[1]] = (data.reshape(2, -1), kind)
    metadata = content.metadata
    metadata["general.name"] = ("another", *metadata["general.name"][1:])
    metadata["added"] = metadata.pop("general.description")
    path = rewrite.write(tmp_path / "m.gguf", content)
    code, differences, _ = verify(statement, path)
    differences.pop(("file", "m.gguf"))
    assert code == 1 and differences == {
        ("tensor", names[0]): "is missing",
        ("tensor", names[1]): "has the shape [128, 2], not [256]",
        ("tensor", names[3]): differences[("tensor", names[3])],
        ("tensor", "extra.weight"): "was added",
        ("metadata", "general.name"): "was changed",
        ("metadata", "general.description"): "is missing",
        ("metadata", "added"): "was added",
    }


def test_what_no_tensor_holds(tmp_path: Path, statement: Path) -> None:
    path = tmp_path / "sample.gguf"
    path.write_bytes(SAMPLE.read_bytes() + b"x")
    code, differences, out = verify(statement, path)
    assert code == 1 and differences[("file", "sample.gguf")].endswith(", and has 571137 bytes, not 571136")
    assert "\ndiffers: 1 file, though no tensor and no metadata do\n" in out


def test_a_download_that_broke_off_or_is_no_gguf(tmp_path: Path, statement: Path) -> None:
    path = tmp_path / "sample.gguf"
    path.write_bytes(SAMPLE.read_bytes()[:300000])
    code, differences, _ = verify(statement, path)
    assert code == 1 and differences[("tensor", "blk.1.ffn_up.weight")] == "its data cannot be read"
    path.write_bytes(b"<html>")
    code, differences, out = verify(statement, path)
    assert (code, list(differences)) == (1, [("file", "sample.gguf")])
    assert out.count("is no GGUF: it starts with b'<htm', not b'GGUF'\n") == 1


def test_shards(tmp_path: Path, statement: Path) -> None:
    """Under other names, in one or several files, with one of them missing."""
    shards = rewrite.split(tmp_path, "m", rewrite.read(SAMPLE), 3)
    own = tmp_path / "own.json"
    assert run_check(shards[0], f"--attest={own}")[0] == 0
    assert verify(own, shards[2])[:2] == (0, {}) and verify(own, *reversed(shards))[:2] == (0, {})
    # The whole model's statement: the tensors are the same, and the metadata but for their places.
    code, differences, _ = verify(statement, shards[0])
    assert code == 1 and {kind for kind, _ in differences} == {"file", "metadata"}
    assert {name for kind, name in differences if kind == "metadata"} == {
        "split.no", "split.count", "split.tensors.count",
    }  # fmt: skip
    names = [path.rename(tmp_path / f"{i}.bin") for i, path in enumerate(shards)]
    assert verify(own, *names)[:2] == (0, {})
    code, differences, _ = verify(own, *names[:2])
    assert (code, differences) == (1, {("file", shards[2].name): "was attested, and is not given"})
    for name, path in zip(names, shards, strict=True):
        name.rename(path)
    shards[1].unlink()
    assert verify(own, shards[0])[1] == {("file", shards[1].name): "is not there"}
    code, differences, _ = verify(own, shards[0], SAMPLE)
    assert code == 1 and ("file", "sample.gguf") in differences


def test_envelopes(tmp_path: Path, statement: Path) -> None:
    """Of DSSE, and a Sigstore bundle around one."""
    payload = base64.b64encode(statement.read_bytes()).decode()
    envelope = {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "MEU="}]}
    path = tmp_path / "envelope.json"
    for content in (envelope, {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope}):
        path.write_text(json.dumps(content))
        assert verify(path, SAMPLE)[:2] == (0, {})


NO_STATEMENT = "is no in-toto statement, and no envelope that holds one"


def test_what_is_no_statement(tmp_path: Path, statement: Path) -> None:
    good, path = json.loads(statement.read_text()), tmp_path / "a.json"
    less = json.loads(statement.read_text())
    del less["predicate"]["files"][0]["tensors"][0]["sha256"]
    other = json.loads(statement.read_text())
    other["subject"][0]["digest"]["sha256"] = 64 * "0"
    for content, message in [
        ("", NO_STATEMENT),
        ("[1]", NO_STATEMENT),
        ('"x"', NO_STATEMENT),
        ('{"payload": "x", "payloadType": "application/vnd.in-toto+json"}', NO_STATEMENT),
        ('{"payload": "e30=", "payloadType": "text/plain"}', NO_STATEMENT),
        (100_000 * "[", NO_STATEMENT),
        ("{}", f"is no statement of hifi_ref.check: its predicateType is None, not {PREDICATE}"),
        (json.dumps(good | {"predicateType": "x"}), f"its predicateType is x, not {PREDICATE}"),
        (json.dumps(good | {"predicate": {}}), "is no whole statement of hifi_ref.check: 'files' is missing or wrong"),
        (json.dumps(less), "is no whole statement of hifi_ref.check: 'sha256' is missing or wrong"),
        (json.dumps(other), "contradicts itself: its subject and its predicate name different files"),
    ]:
        path.write_text(content)
        code, out, err = run_check(SAMPLE, f"--verify={path}")
        assert (code, out, err.count("\n")) == (2, "", 1) and str(path) in err and message in err, (content[:50], err)
    wanted = f"hifi_ref.check: cannot read {tmp_path / 'no'}: No such file or directory\n"
    assert run_check(SAMPLE, f"--verify={tmp_path / 'no'}") == (2, "", wanted)
    assert run_check(tmp_path / "no", f"--verify={statement}") == (2, "", wanted)
    code, out, err = run_check(SAMPLE, f"--verify={statement}", "--quiet", "--source=x")
    assert (code, out) == (2, "") and "--verify looks at nothing but the statement" in err
