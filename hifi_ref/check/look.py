"""A model's files looked at for themselves: structure, every block, whether they belong together and would load."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from hifi_ref.check.builds import check_recipes
from hifi_ref.check.damage import Damage
from hifi_ref.check.hashes import Hashes, Hashing
from hifi_ref.check.loads import judge_loading
from hifi_ref.check.payload import check_payload
from hifi_ref.check.recipe import recipe_of
from hifi_ref.check.report import Part, Report
from hifi_ref.check.shards import check_shards
from hifi_ref.model_files.dialects import REFERENCE
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, map_file, printable, scan
from hifi_ref.model_files.gguf_place import check_padding
from hifi_ref.model_files.holes import IsHole, holes
from hifi_ref.model_files.models import ModelFiles
from hifi_ref.model_files.remote import RemoteMap, check_unchanged, held

Progress = Callable[[int, str], object]


class _Scanned(NamedTuple):
    gguf: Gguf
    findings: Findings


def check_file(
    path: str | os.PathLike[str],
    progress: Callable[[int], object] = lambda nbytes: None,
    dialect: str | None = None,
) -> Report:
    """Check a file. Raises OSError, or GgufError where it is no GGUF; everything else is a finding.

    ``progress`` is called with the number of bytes whenever some are done. ``dialect``, a key of DIALECTS, says what
    the type ids mean; None finds out.
    """
    return check_model(ModelFiles([os.fspath(path)]), lambda nbytes, name: progress(nbytes), dialect)


def check_model(
    files: ModelFiles,
    progress: Progress = lambda nbytes, name: None,
    dialect: str | None = None,
    findings: Findings | None = None,
    hashed: bool = False,
    payload: bool = True,
) -> Report:
    """Check all files of a model, as `check_file` does; what is wrong with one of several names it.

    ``progress`` is called with the number of bytes that are done, which may be 0, and the tensor that is looked at.
    ``findings``, which the report keeps, says what is to be ignored; ``hashed`` asks for the files' hashes.
    Without ``payload`` no tensor's bytes are looked at, and the verdict says so.
    """
    findings = Findings() if findings is None else findings
    scanned = _scan(files.paths, dialect, findings.ignores)
    parts = []
    for path, one in zip(files.paths, scanned, strict=True):
        hashes = _look_at_blocks(path, one, progress, hashed) if payload else None
        parts.append(Part(path, len(one.gguf.data), one.gguf, hashes))
        _take(findings, one.findings, printable(os.path.basename(path)) if len(scanned) > 1 else None)
    check_shards(files, [gguf for gguf, _ in scanned], findings)
    whole = parts[0].gguf
    if len(parts) > 1:
        whole = replace(whole, tensors=[tensor for part in parts for tensor in part.gguf.tensors])
    recipe = recipe_of(whole, findings, bool(files.missing))
    check_recipes(parts, whole, recipe, findings)
    loading = judge_loading([part.gguf for part in parts], findings)
    return Report(parts[0].path, sum(part.size for part in parts), whole, findings, parts, loading, recipe, payload)


def _look_at_blocks(path: str, one: _Scanned, progress: Progress, hashed: bool) -> Hashes | None:
    damage = Damage(one.gguf, one.findings)
    hashing = Hashing(one.gguf) if hashed else None
    with _holes(path, one.gguf) as is_hole:
        for tensor in one.gguf.in_file_order():
            progress(0, tensor.name)
            start, stop = tensor.start, tensor.start + tensor.known_nbytes
            hole = is_hole(start, stop)
            with held(one.gguf.data, start, stop), nullcontext() if hashing is None else hashing.beside(tensor):
                check_payload(one.gguf, tensor, one.findings, _of(tensor, progress), hole)
                damage.look(tensor, hole)
    damage.conclude()
    hashes = None if hashing is None else hashing.finish()
    if isinstance(one.gguf.data, RemoteMap) and one.gguf.header_end is not None:
        check_padding(one.gguf, one.findings)
    check_unchanged(one.gguf.data)
    return hashes


def _holes(path: str, gguf: Gguf) -> AbstractContextManager[IsHole]:
    """Of what lies elsewhere the local file has holes wherever nothing was fetched yet."""
    return nullcontext(lambda start, stop: False) if isinstance(gguf.data, RemoteMap) else holes(path)


def _of(tensor: Tensor, progress: Progress) -> Callable[[int], object]:
    return lambda nbytes: progress(nbytes, tensor.name)


def _take(findings: Findings, others: Findings, file: str | None) -> None:
    findings.take(others, lambda finding: file)


def _scan(paths: Sequence[str], dialect: str | None, ignores: Callable[[Finding], bool]) -> list[_Scanned]:
    """Each file's structure. What one shard makes known of the type ids holds for all."""
    scanned = [_scan_one(path, dialect, ignores) for path in paths]
    known = {gguf.dialect for gguf, _ in scanned} - {REFERENCE}
    if dialect is None and len(scanned) > 1 and len(known) == 1:
        (found,) = known
        known_to_all = [one.gguf.dialect == found for one in scanned]
        scanned = [
            one if knows else _scan_one(path, found, ignores)
            for path, one, knows in zip(paths, scanned, known_to_all, strict=True)
        ]
    return scanned


def _scan_one(path: str, dialect: str | None, ignores: Callable[[Finding], bool]) -> _Scanned:
    findings = Findings(ignores=ignores)
    return _Scanned(scan(map_file(path), findings, dialect), findings)
