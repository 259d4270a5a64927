"""A model's files looked at for themselves: structure, every block, whether they belong together and would load."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from hifi_ref.check.damage import Damage
from hifi_ref.check.loads import judge_loading
from hifi_ref.check.models import ModelFiles
from hifi_ref.check.payload import check_payload
from hifi_ref.check.recipe import recipe_of
from hifi_ref.check.report import Part, Report
from hifi_ref.check.shards import check_shards
from hifi_ref.model_files.dialects import REFERENCE
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, map_file, printable, scan


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
    return check_model(ModelFiles([os.fspath(path)]), progress, dialect)


def check_model(
    files: ModelFiles,
    progress: Callable[[int], object] = lambda nbytes: None,
    dialect: str | None = None,
    findings: Findings | None = None,
) -> Report:
    """Check all files of a model, as `check_file` does; what is wrong with one of several names it.

    ``findings``, which the report keeps, says what is to be ignored.
    """
    findings = Findings() if findings is None else findings
    scanned = _scan(files.paths, dialect, findings.ignores)
    for path, one in zip(files.paths, scanned, strict=True):
        _look_at_blocks(one, progress)
        _take(findings, one.findings, printable(os.path.basename(path)) if len(scanned) > 1 else None)
    check_shards(files, [gguf for gguf, _ in scanned], findings)
    parts = [Part(path, len(gguf.data), gguf) for path, (gguf, _) in zip(files.paths, scanned, strict=True)]
    whole = parts[0].gguf
    if len(parts) > 1:
        whole = replace(whole, tensors=[tensor for part in parts for tensor in part.gguf.tensors])
    recipe = recipe_of(whole, findings, bool(files.missing))
    loading = judge_loading([part.gguf for part in parts], findings)
    return Report(parts[0].path, sum(part.size for part in parts), whole, findings, parts, loading, recipe)


def _look_at_blocks(one: _Scanned, progress: Callable[[int], object]) -> None:
    damage = Damage(one.gguf, one.findings)
    for tensor in one.gguf.tensors:
        if tensor.readable:
            check_payload(one.gguf, tensor, one.findings, progress)
            damage.look(tensor)
    damage.conclude()


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
