"""What check saw of a model, as an in-toto statement that its publisher may sign: docs/attestation.md.

`to_statement` makes one of a report; `read_statement` reads one, bare or in the envelope of a tool that signs.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from hifi_ref.check.comparison import Comparison
from hifi_ref.check.hashes import HashedFile
from hifi_ref.check.report import Part, Report, blocks_looked_at
from hifi_ref.check.verdict import judged_blocks
from hifi_ref.commands.provenance import versions
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import printable

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:hifi-ref:check:1"
PAYLOAD = "application/vnd.in-toto+json"
SCHEMA_FILE = Path(__file__).parent / "attestation.schema.json"
# Flags that bear upon the verdict; of paths the last name is given.
FLAGS = ("source", "imatrix", "tensors", "sample", "seed", "profile", "dialect", "fail-on", "ignore")
# A statement of a hundred thousand tensors is far smaller.
MOST_BYTES = 1 << 28


class AttestedTensor(NamedTuple):
    type: str
    shape: list[int]
    sha256: str | None


class AttestedFile(NamedTuple):
    """What a statement says of one file. Tensors and metadata keys by their names."""

    name: str
    size: int
    sha256: str
    metadata: dict[str, str]
    tensors: dict[str, AttestedTensor]


class Statement(NamedTuple):
    """A statement that was read: of which files, the verdict that it states, when, and by which versions."""

    files: list[AttestedFile]
    verdict: str
    date: str
    versions: dict[str, str]


def stated_flags(values: flags.FlagValues) -> dict[str, Any]:
    """The flags that were given and bear upon the verdict."""
    given: dict[str, Any] = {name: values[name].value for name in FLAGS if values[name].present}
    return {name: name_of(value) if name in ("source", "imatrix") else value for name, value in given.items()}


def to_statement(report: Report, given: dict[str, Any]) -> dict[str, object]:
    """The statement about a report whose parts have their hashes; ``given``: the flags, as `stated_flags` has them."""
    files = [_file(part) for part in report.parts]
    return {
        "_type": TYPE,
        "subject": [{"name": file["name"], "digest": {"sha256": file["sha256"]}} for file in files],
        "predicateType": PREDICATE,
        "predicate": {
            "date": report.date,
            "verdict": report.verdict._asdict(),
            "loading": report.loading._asdict(),
            "recipe": report.recipe.sentence,
            "counts": dict(sorted(report.findings.counts.items())),
            "ignored": dict(sorted(report.findings.ignored.items())),
            "blocks": blocks_looked_at(report),
            "files": files,
            "source": None if report.comparison is None else _source(report, report.comparison),
            "versions": versions(),
            "flags": given,
        },
    }


def _file(part: Part) -> dict[str, Any]:
    assert part.hashes is not None
    tensors = zip(part.gguf.tensors, part.hashes.tensors, strict=True)
    return {
        "name": name_of(part.path),
        "size": part.size,
        "sha256": part.hashes.sha256,
        "metadata": part.hashes.metadata,
        "tensors": [
            {"name": t.name, "type": t.type_name, "shape": list(t.shape), "sha256": digest} for t, digest in tensors
        ],
    }


def _source(report: Report, comparison: Comparison) -> dict[str, object]:
    """What the model was compared with, and how far."""

    def named(files: list[HashedFile]) -> list[dict[str, object]]:
        return [file._asdict() for file in files]

    return {
        "form": comparison.form,
        "files": named(comparison.source_files),
        "imatrix": named(comparison.imatrix_files)[0] if comparison.imatrix_files else None,
        "importance": None if comparison.coverage is None else comparison.coverage._asdict(),
        "outcomes": dict(sorted(Counter(result.outcome for result in comparison.results).items())),
        "metadata_compared": 0 if comparison.metadata is None else comparison.metadata.compared,
        "blocks_compared": judged_blocks(comparison),
        "blocks": sum(tensor.blocks or 0 for tensor in report.gguf.tensors),
        "left_out": comparison.left_out,
        "missing": comparison.missing,
        "unmapped": comparison.unmapped,
        "encoded_on": list(comparison.encoded_on),
    }


# READING


def read_statement(path: str) -> Statement:
    """Read a statement: bare, in a DSSE envelope, or in a Sigstore bundle. Signatures are not looked at.

    Raises OSError, or InputError where it is none of these, or contradicts itself.
    """
    name = printable(path)
    if os.path.isfile(path) and os.path.getsize(path) > MOST_BYTES:
        raise InputError(f"{name}: larger than {MOST_BYTES} bytes, so no statement")
    try:
        content = _unwrapped(json.loads(Path(path).read_bytes()))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{name} is no in-toto statement, and no envelope that holds one") from None
    if content.get("_type") != TYPE or content.get("predicateType") != PREDICATE:
        kind = printable(str(content.get("predicateType")))
        raise InputError(f"{name} is no statement of hifi_ref.check: its predicateType is {kind}, not {PREDICATE}")
    try:
        found = _parsed(content["predicate"])
        subjects = sorted((subject["name"], subject["digest"]["sha256"]) for subject in content["subject"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = printable(" ".join(str(error).split()))
        raise InputError(f"{name} is no whole statement of hifi_ref.check: {what} is missing or wrong") from None
    if subjects != sorted((file.name, file.sha256) for file in found.files):
        raise InputError(f"{name} contradicts itself: its subject and its predicate name different files")
    return found


def _unwrapped(content: Any) -> dict[str, Any]:
    """The statement in what a tool that signs makes of it. Raises KeyError, TypeError or ValueError."""
    if "dsseEnvelope" in content:
        content = content["dsseEnvelope"]
    if "payload" in content:
        if content["payloadType"] != PAYLOAD:
            raise ValueError
        content = json.loads(base64.b64decode(content["payload"], validate=True))
    if not isinstance(content, dict):
        raise TypeError
    return content


def _parsed(predicate: dict[str, Any]) -> Statement:
    """Raises KeyError, TypeError, ValueError or AttributeError."""
    files = []
    for file in predicate["files"]:
        tensors = {
            t["name"]: AttestedTensor(t["type"], [int(n) for n in t["shape"]], t["sha256"]) for t in file["tensors"]
        }
        metadata = dict(file["metadata"].items())
        files.append(AttestedFile(str(file["name"]), int(file["size"]), str(file["sha256"]), metadata, tensors))
    if not files:
        raise ValueError("a file")
    verdict = predicate["verdict"]
    made_by = {str(name): str(version) for name, version in predicate["versions"].items()}
    return Statement(files, f"{verdict['kind']}: {verdict['reason']}", str(predicate["date"]), made_by)
