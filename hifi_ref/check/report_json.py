"""What `check` found, as JSON's types for programs. report.schema.json describes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import hifi_ref
from hifi_ref.check.comparison import Comparison
from hifi_ref.check.report import Part, Report, bits_per_weight, blocks_looked_at, by_type, totals
from hifi_ref.check.verdict import judged_blocks
from hifi_ref.commands.provenance import RELEASE, versions
from hifi_ref.model_files.file_types import file_type, file_type_name
from hifi_ref.model_files.finding_codes import CODES

SCHEMA = "hifi_ref.check/2"
SCHEMA_FILE = Path(__file__).parent / "report.schema.json"


def to_json(report: Report) -> dict[str, object]:
    """The report as JSON's types."""
    gguf = report.gguf
    number = file_type(gguf)
    holders = {id(t): n for n, part in enumerate(report.parts) for t in part.gguf.tensors}
    digests = {
        id(tensor): digest
        for part in report.parts
        if part.hashes is not None
        for tensor, digest in zip(part.gguf.tensors, part.hashes.tensors, strict=True)
    }
    results = {} if report.comparison is None else {result.name: result for result in report.comparison.results}
    return {
        "schema": SCHEMA,
        "date": report.date,
        "versions": versions(),
        "path": report.path,
        "size": report.size,
        "files": [_file(part) for part in report.parts],
        "sound": report.sound,
        "version": gguf.version,
        "byte_order": "little" if gguf.order == "<" else "big",
        "alignment": gguf.alignment,
        "metadata_entries": len(gguf.metadata),
        "file_type": None if number is None else {"number": number, "name": file_type_name(number)},
        "dialect": gguf.dialect,
        "verdict": report.verdict._asdict(),
        "loading": report.loading._asdict(),
        "recipe": report.recipe._asdict(),
        "rests_on": {
            "blocks": blocks_looked_at(report),
            "compared": None if report.comparison is None else judged_blocks(report.comparison),
            "hifi_ref": hifi_ref.__version__,
            "reference": RELEASE,
        },
        "counts": dict(sorted(report.findings.counts.items())),
        "ignored": dict(sorted(report.findings.ignored.items())),
        "findings": [{"severity": f.severity, "title": CODES[f.code].title, **asdict(f)} for f in report.findings.kept],
        "types": {name: totals(group) for name, group in by_type(gguf.tensors)},
        "totals": totals(gguf.tensors),
        "source": None if report.comparison is None else _source(report, report.comparison),
        "tensors": [
            {
                "name": t.name,
                "type": t.type_name,
                "shape": list(t.shape),
                "file": holders[id(t)],
                "offset": t.start,
                "bytes": t.nbytes,
                "blocks": t.blocks,
                "bits_per_weight": bits_per_weight(t),
                "sha256": digests.get(id(t)),
                "findings": t.codes,
                **({"source": results[t.name].to_json()} if t.name in results else {}),
            }
            for t in gguf.tensors
        ],
    }


def _file(part: Part) -> dict[str, object]:
    held = part.gguf
    return {
        "path": part.path,
        "size": part.size,
        "metadata_entries": len(held.metadata),
        "tensors": len(held.tensors),
        "sha256": None if part.hashes is None else part.hashes.sha256,
    }


def _source(report: Report, comparison: Comparison) -> dict[str, object]:
    options = comparison.options
    return {
        "path": options.source,
        "form": comparison.form,
        "imatrix": options.imatrix,
        "imatrix_datasets": list(comparison.datasets),
        "tensors": options.tensors,
        "sample": options.sample,
        "seed": options.seed,
        "profile": options.profile,
        "reproduced": report.reproduced,
        "outcomes": dict(sorted(Counter(result.outcome for result in comparison.results).items())),
        "missing": comparison.missing,
        "unmapped": comparison.unmapped,
        "elsewhere": comparison.elsewhere,
        "coverage": None if comparison.coverage is None else comparison.coverage._asdict(),
        "left_out": comparison.left_out,
        "metadata": None if comparison.metadata is None else comparison.metadata._asdict(),
        "encoded_on": list(comparison.encoded_on),
        "files": [file._asdict() for file in comparison.source_files],
        "imatrix_files": [file._asdict() for file in comparison.imatrix_files],
        "verdict": report.verdict.sentence,
    }
