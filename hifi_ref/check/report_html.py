"""What `check` found, as one page for a browser: what report.html shows. drawings makes its maps and histograms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref.check.comparison import DIFFERS, OTHERWISE, REPRODUCED, TensorResult
from hifi_ref.check.drawings import LEGEND, block_map, histogram
from hifi_ref.check.report import Part, Report, bits_per_weight, by_type, headline, totals
from hifi_ref.check.verdict import GOOD
from hifi_ref.commands import pages
from hifi_ref.commands.provenance import versions
from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.gguf_file import Tensor, printable

TEMPLATE = Path(__file__).parent / "report.html"
# Findings of one code that are shown.
SHOWN = 20


def to_html(report: Report) -> str:
    """The whole page."""
    results = {} if report.comparison is None else {r.name: r for r in report.comparison.results}
    path, facts = headline(report).rsplit(": ", 1)
    return pages.render(
        TEMPLATE,
        title=path,
        facts=facts,
        made=f"{report.date}, {', '.join(f'{name} {version}' for name, version in versions().items())}",
        hashes=[(printable(name_of(part.path)), part.hashes.sha256) for part in report.parts if part.hashes],
        verdict=_verdict(report),
        recipe=report.recipe.sentence,
        tiles=_tiles(report, results),
        findings=_findings(report),
        formats=_formats(report, results),
        legend=LEGEND,
        compared=bool(results),
        tensors=[
            {**_tensor(tensor, results.get(tensor.name)), "sha256": digest}
            for part in report.parts
            for tensor, digest in _hashed(part)
        ],
    )


def _hashed(part: Part) -> Iterable[tuple[Tensor, str | None]]:
    """The tensors of a file, each with its digest where there is one."""
    digests = [None] * len(part.gguf.tensors) if part.hashes is None else part.hashes.tensors
    return zip(part.gguf.tensors, digests, strict=True)


def _verdict(report: Report) -> dict[str, str]:
    """A colour's class, a word, and a sentence."""
    severities = {CODES[code].severity for code in report.findings.counts}
    word, reason, sentence = report.verdict
    kind = "bad" if "error" in severities else "warn" if severities or word not in GOOD else "good"
    return {"kind": kind, "word": f"{word.capitalize()}:", "sentence": f"{reason}. {sentence}"}


def _tiles(report: Report, results: dict[str, TensorResult]) -> list[dict[str, str]]:
    total = totals(report.gguf.tensors)
    tiles = [(f"{total['tensors']:,}", "tensors"), (f"{total['elements']:,}", "weights")]
    tiles.append((f"{total['bytes']:,}", "bytes"))
    if total["bits_per_weight"] is not None:
        tiles.append((f"{total['bits_per_weight']:.3g}", "bits per weight"))
    if results:
        same = sum(r.outcome == REPRODUCED for r in results.values())
        differing = sum(r.blocks_differing for r in results.values())
        judged = sum(r.blocks_judged for r in results.values())
        tiles += [
            (f"{same} of {len(results)}", "tensors reproduced"),
            (f"{differing:,} of {judged:,}", "blocks differ"),
        ]
    return [{"number": number, "unit": unit} for number, unit in tiles]


def _findings(report: Report) -> list[dict[str, Any]]:
    """One entry per code."""
    return [
        {
            "kind": "bad" if CODES[code].severity == "error" else "warn",
            "severity": CODES[code].severity,
            "code": code,
            "title": CODES[code].title,
            "means": CODES[code].means,
            "advice": CODES[code].advice,
            "messages": [f.message for f in report.findings.kept if f.code == code][:SHOWN],
            "more": max(0, count - SHOWN),
        }
        for code, count in sorted(report.findings.counts.items())
    ]


def _formats(report: Report, results: dict[str, TensorResult]) -> list[dict[str, Any]]:
    """A histogram of the blocks' errors for each quantized format."""
    formats = []
    for name, tensors in by_type(report.gguf.tensors):
        bars = [results[t.name].histogram for t in tensors if t.name in results and results[t.name].histogram]
        if bars:
            formats.append({"name": name, "histogram": histogram(np.sum(bars, axis=0).tolist(), 300, 90, True)})
    return formats


def _tensor(tensor: Tensor, result: TensorResult | None) -> dict[str, Any]:
    """A row of the table."""
    bits = bits_per_weight(tensor)
    return {
        "name": tensor.name,
        "type": tensor.type_name,
        "shape": " x ".join(map(str, tensor.shape)) or "1",
        "bits": "" if bits is None else f"{bits:.4g}",
        "blocks": tensor.blocks or "",
        "findings": " ".join(tensor.codes) or "-",
        "source": None if result is None else _compared(result),
    }


def _compared(result: TensorResult) -> dict[str, Any]:
    """What a row says of the comparison."""
    kinds = {REPRODUCED: "good", OTHERWISE: "warn", DIFFERS: "bad"}
    differing = f"{result.blocks_differing} of {result.blocks_judged} differ"
    errors = result.errors
    noise = errors.get("signal_to_noise_db")
    return {
        "kind": "warn" if result.meaning in ("profile", "encoder") else kinds.get(result.outcome, "none"),
        "outcome": differing if result.blocks_differing else result.outcome,
        "meaning": result.meaning or "",
        "map": block_map(result),
        "histogram": histogram(result.histogram, 130, 34, False) if result.histogram else None,
        "rms": f"{errors['rms']:.3g}" if errors else "",
        "noise": "" if not errors else "exact" if noise is None else f"{noise:.1f} dB",
    }
