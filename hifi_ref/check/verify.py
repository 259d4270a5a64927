"""A download held against an attestation of what was published, without the source: is every byte the same?

Files are matched by their digests, whatever they are called; what is left over by name, then by order. Of files that
differ it is told which tensors, of all of them together, and which metadata do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hifi_ref.check.attestation import AttestedFile, AttestedTensor, Statement
from hifi_ref.check.hashes import Hashing, hash_files
from hifi_ref.check.verdict import plural
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import map_file, printable, scan
from hifi_ref.model_files.remote import check_unchanged, held, is_remote

SCHEMA = "hifi_ref.verify/1"
SAME, DIFFERS = "the same", "differs"
# Differences that are printed; the JSON holds all.
SHOWN = 40


class Difference(NamedTuple):
    """``kind`` is file, tensor or metadata; ``name`` which one; ``what`` came of it."""

    kind: str
    name: str
    what: str


class Looked(NamedTuple):
    """A file that was given: what a statement would say of it; ``sentence`` says why it can hold no tensors."""

    path: str
    content: AttestedFile
    sentence: str = ""


class Verification(NamedTuple):
    """What came of it. ``matches`` has for each file the name that the statement knows its bytes by, or None."""

    path: str
    statement: Statement
    files: list[Looked]
    matches: list[str | None]
    differences: list[Difference]

    @property
    def kind(self) -> str:
        return DIFFERS if self.differences else SAME

    @property
    def reason(self) -> str:
        if not self.differences:
            size = sum(file.size for file in self.statement.files)
            return f"every byte of {_counted(len(self.files), 'file')} ({size} bytes) is what was attested"
        kinds = [difference.kind for difference in self.differences]
        nouns = {"file": "file", "tensor": "tensor", "metadata": "metadata key"}
        counts = ", ".join(_counted(kinds.count(kind), noun) for kind, noun in nouns.items() if kind in kinds)
        alike = set(kinds) == {"file"} and all(not file.sentence for file in self.files) and None in self.matches
        return f"{counts}{', though no tensor and no metadata do' if alike else ''}"


def verify(
    path: str,
    statement: Statement,
    paths: Sequence[str],
    missing: Sequence[str],
    progress: Callable[[int, str], object] = lambda nbytes, name: None,
) -> Verification:
    """Hold the files at ``paths`` against a statement, which was read from ``path``.

    ``missing`` are names of shards that are not there. Raises OSError, or InputError where a file cannot be read.
    """
    looked = [_look(file, progress) for file in paths]
    attested = list(statement.files)
    matches: list[str | None] = []
    for file in looked:
        same = next((a for a in attested if (a.sha256, a.size) == (file.content.sha256, file.content.size)), None)
        matches.append(None if same is None else same.name)
        if same is not None:
            attested.remove(same)
    others = [file for file, match in zip(looked, matches, strict=True) if match is None]
    differences = _of_files(attested, others, missing)
    models = [file.content for file in others if not file.sentence]
    if attested and models:
        differences += _of_tensors([a.tensors for a in attested], [m.tensors for m in models])
        differences += _of_metadata([a.metadata for a in attested], [m.metadata for m in models])
    return Verification(path, statement, looked, matches, differences)


def _look(path: str, progress: Callable[[int, str], object]) -> Looked:
    """Hash a file, and as far as it is a GGUF its tensors."""
    try:
        gguf = scan(map_file(path), Findings())
    except InputError as error:
        if is_remote(path):
            raise
        (whole,) = hash_files([path])
        return Looked(path, AttestedFile(*whole, {}, {}), str(error))
    hashing = Hashing(gguf)
    for tensor in gguf.in_file_order():
        progress(0, tensor.name)
        with held(gguf.data, tensor.start, tensor.start + tensor.known_nbytes), hashing.beside(tensor):
            pass
        progress(tensor.known_nbytes, tensor.name)
    hashes = hashing.finish()
    check_unchanged(gguf.data)
    tensors = {
        t.name: AttestedTensor(t.type_name, list(t.shape), digest)
        for t, digest in zip(gguf.tensors, hashes.tensors, strict=True)
    }
    return Looked(path, AttestedFile(name_of(path), len(gguf.data), hashes.sha256, hashes.metadata, tensors))


def _of_files(attested: list[AttestedFile], others: list[Looked], missing: Sequence[str]) -> list[Difference]:
    """Files that differ, that are not there, and that were not attested."""
    left = list(attested)
    pairs: dict[str, AttestedFile | None] = {}
    for file in others:
        pairs[file.path] = next((a for a in left if a.name == file.content.name), None)
        left = [a for a in left if a is not pairs[file.path]]
    found = []
    for file in others:
        wanted = pairs[file.path] or (left.pop(0) if left else None)
        name = printable(file.path)
        if wanted is None:
            found.append(Difference("file", name, "was not attested"))
            continue
        called = "" if wanted.name == file.content.name else f", attested as {printable(wanted.name)}"
        size = "" if wanted.size == file.content.size else f", and has {file.content.size} bytes, not {wanted.size}"
        digests = f"has the SHA-256 {file.content.sha256}, not {wanted.sha256}"
        found.append(Difference("file", name, f"{digests}{called}{size}{file.sentence and f': {file.sentence}'}"))
    gone = {name_of(name) for name in missing} & {a.name for a in left}
    return found + [
        Difference("file", printable(a.name), "is not there" if a.name in gone else "was attested, and is not given")
        for a in left
    ]


def _of_tensors(
    attested: Sequence[Mapping[str, AttestedTensor]], others: Sequence[Mapping[str, AttestedTensor]]
) -> list[Difference]:
    """Tensor by tensor, whichever of the files holds it."""
    wanted = {name: tensor for tensors in attested for name, tensor in tensors.items()}
    found = {name: tensor for tensors in others for name, tensor in tensors.items()}
    differences = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        what = _of_tensor(wanted.get(name), found.get(name))
        if what is not None:
            differences.append(Difference("tensor", printable(name), what))
    return differences


def _of_tensor(wanted: AttestedTensor | None, found: AttestedTensor | None) -> str | None:
    if wanted is None or found is None:
        return "was added" if wanted is None else "is missing"
    if wanted.type != found.type:
        return f"is {found.type}, not {printable(wanted.type)}"
    if wanted.shape != found.shape:
        return f"has the shape {found.shape}, not {wanted.shape}"
    if wanted.sha256 == found.sha256:
        return None
    return "its data cannot be read" if found.sha256 is None else "its data differs"


def _of_metadata(attested: Sequence[Mapping[str, str]], others: Sequence[Mapping[str, str]]) -> list[Difference]:
    """Key by key; where several files have one, all their values together."""
    wanted, found = _values(attested), _values(others)
    differences = []
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if wanted.get(key) != found.get(key):
            what = "was added" if key not in wanted else "is missing" if key not in found else "was changed"
            differences.append(Difference("metadata", printable(key), what))
    return differences


def _values(files: Sequence[Mapping[str, str]]) -> dict[str, set[str]]:
    return {key: {file[key] for file in files if key in file} for file in files for key in file}


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{plural(n)}"


# REPORTS


def to_text(found: Verification) -> str:
    """The files, what differs, the verdict, and what it rests on."""
    lines = []
    for file, match in zip(found.files, found.matches, strict=True):
        known_as = "" if match in (None, file.content.name) else f", attested as {printable(str(match))}"
        lines.append(f"{printable(file.path)}: {file.content.size} bytes, SHA-256 {file.content.sha256}{known_as}")
    lines.append("")
    if found.differences:
        lines += [f"  {d.kind} {d.name}: {d.what}" for d in found.differences[:SHOWN]]
        more = len(found.differences) - SHOWN
        lines += [*([f"  and {more} more"] if more > 0 else []), ""]
    statement = found.statement
    made_by = f"hifi_ref {statement.versions.get('hifi_ref')}, {statement.versions.get('reference')}"
    lines += [
        f"{found.kind}: {found.reason}",
        "",
        f"rests on: the statement {printable(found.path)} of {printable(statement.date)} by {printable(made_by)}; "
        "signature not checked here",
        f"attested: {printable(statement.verdict)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def to_json(found: Verification) -> dict[str, object]:
    """The same for programs."""
    return {
        "schema": SCHEMA,
        "statement": found.path,
        "signature": "not checked",
        "verdict": {"kind": found.kind, "reason": found.reason},
        "attested": {"verdict": found.statement.verdict, "date": found.statement.date},
        "files": [
            {"path": file.path, "size": file.content.size, "sha256": file.content.sha256, "attested_as": match}
            for file, match in zip(found.files, found.matches, strict=True)
        ],
        "differences": [difference._asdict() for difference in found.differences],
    }
