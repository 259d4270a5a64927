"""What `check` found, as text for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

import hifi_ref
from hifi_ref.check.comparison import OTHERWISE, REPRODUCED, Comparison, TensorResult
from hifi_ref.check.hashes import Hashes
from hifi_ref.check.loads import Loading
from hifi_ref.check.recipe import Recipe
from hifi_ref.check.verdict import GOOD, Verdict, judge, judged_blocks, plural
from hifi_ref.commands import provenance, terminal
from hifi_ref.commands.provenance import RELEASE
from hifi_ref.model_files.dialects import REFERENCE
from hifi_ref.model_files.file_types import file_type, file_type_name
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import Gguf, Tensor, printable
from hifi_ref.model_files.tensor_types import is_defined

# Findings of one code that are printed; the JSON holds more.
SHOWN = 5
# Of findings on a terminal, the severest first.
COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


class Part(NamedTuple):
    """One file of a model; ``hashes`` are there where they were asked for."""

    path: str
    size: int
    gguf: Gguf
    hashes: Hashes | None = None


@dataclass
class Report:
    """What `check_model` found. The model is sound when ``findings`` has no entry.

    ``path`` is that of the only or the first file; ``gguf`` has its metadata, and the tensors of all ``parts``.
    ``payload`` says whether the tensors' blocks were looked at.
    """

    path: str
    size: int
    gguf: Gguf
    findings: Findings
    parts: list[Part]
    loading: Loading
    recipe: Recipe
    payload: bool = True
    comparison: Comparison | None = None
    date: str = field(default_factory=provenance.date)

    @property
    def sound(self) -> bool:
        """Nothing is wrong with the file itself, whatever it was made from; all of it was looked at."""
        return self.payload and all(code[0] == "E" or CODES[code].severity == "note" for code in self.findings.counts)

    @property
    def reproduced(self) -> bool | None:
        """Every block of every tensor is what the reference encoder writes from the source; None without a source."""
        return None if self.comparison is None else self.verdict.kind == REPRODUCED

    @property
    def verdict(self) -> Verdict:
        return judge(self.path, self.gguf, self.findings, self.comparison, self.payload)


def to_text(report: Report, quiet: bool = False, colour: bool = False, attested: str | None = None) -> str:
    """The report as text: the file, a line per tensor, the types, the findings and the verdict.

    ``attested`` is the path of an attestation, which repeats the verdict: if that is not good, nobody shall miss it.
    """
    parts: list[RenderableType] = [headline(report)]
    if not quiet and report.gguf.tensors:
        parts += ["", _tensor_table(report), "", _type_table(report)]
    parts += ["", *findings_lines(report), verdict_text(report)]
    if report.verdict.sentence:
        parts += ["", report.verdict.sentence]
    parts += ["", f"rests on: {rests_on(report)}"]
    if report.comparison is not None and report.comparison.encoded_on:
        parts.append(f"encoded again on: {', '.join(report.comparison.encoded_on)}")
    parts += [f"recipe: {report.recipe.sentence}", f"loading: {report.loading.line}"]
    if attested is not None:
        parts += ["", _attested(report, attested)]
    return terminal.rendered(parts, colour)


def _attested(report: Report, path: str) -> Text:
    kind, reason, _ = report.verdict
    if kind in GOOD:
        return Text(f"attested: {printable(path)} says: {kind}: {reason}")
    return Text(f"ATTESTED AS {kind.upper()}: {printable(path)} says: {kind}: {reason}", "bold red")


def blocks_looked_at(report: Report) -> int:
    """Blocks of the tensors that are in the file and of a format that is defined here."""
    if not report.payload:
        return 0
    return sum(t.blocks or 0 for t in report.gguf.tensors if t.readable and is_defined(t.known_type))


def rests_on(report: Report) -> str:
    """What the verdict rests on: how much was looked at, and by which versions."""
    files, tensors, blocks = len(report.parts), len(report.gguf.tensors), blocks_looked_at(report)
    looked = f"{files} file{plural(files)}, {tensors} tensor{plural(tensors)}, {blocks} block{plural(blocks)} looked at"
    compared = "" if report.comparison is None else f", {judged_blocks(report.comparison)} compared"
    if report.comparison is not None and report.comparison.metadata is not None:
        compared += f"; {report.comparison.metadata.line}"
    return f"{looked}{compared}; hifi_ref {hifi_ref.__version__}, {RELEASE}"


def _tensor_table(report: Report) -> Table:
    results = {} if report.comparison is None else {r.name: r for r in report.comparison.results}
    compared = ("from the source",) if report.comparison else ()
    rows: list[tuple[str | Text, ...]] = [("tensor", "type", "shape", "bits/weight", "blocks", *compared, "findings")]
    for t in report.gguf.tensors:
        bits = bits_per_weight(t)
        shape = " x ".join(map(str, t.shape)) or "1"
        cells = (t.name, t.type_name, shape, "" if bits is None else f"{bits:.4g}", f"{t.blocks or ''}")
        outcome = [_outcome(results.get(t.name))] if compared else []
        rows.append((*cells, *outcome, Text(" ".join(t.codes) or "-", _worst(t.codes))))
    return terminal.table(rows, right=(3, 4))


def _type_table(report: Report) -> Table:
    rows: list[tuple[str, ...]] = [("type", "tensors", "weights", "bytes", "bits/weight")]
    for name, group in [*by_type(report.gguf.tensors), ("all", report.gguf.tensors)]:
        total = totals(group)
        bits = total["bits_per_weight"]
        numbers = (total["tensors"], total["elements"], total["bytes"])
        rows.append((name, *map(str, numbers), "" if bits is None else f"{bits:.4g}"))
    return terminal.table(rows, right=(1, 2, 3, 4))


def _worst(codes: Iterable[str]) -> str:
    """The colour of the severest of these findings."""
    severities = {CODES[code].severity for code in codes}
    return next((COLOURS[severity] for severity in COLOURS if severity in severities), "")


def _outcome(result: TensorResult | None) -> Text:
    if result is None:
        return Text("-")
    if result.blocks_differing:
        return Text(f"{result.blocks_differing} of {result.blocks_judged} differ", "yellow")
    words = {REPRODUCED: "the same", OTHERWISE: "the same, otherwise"}.get(result.outcome, result.outcome)
    return Text(words, "green" if result.outcome == REPRODUCED else "yellow")


def headline(report: Report) -> str:
    gguf = report.gguf
    number = file_type(gguf)
    parts = [
        f"GGUF v{gguf.version}",
        "little-endian" if gguf.order == "<" else "big-endian",
        f"{report.size} bytes",
        f"{len(gguf.metadata)} metadata entries",
        f"{len(gguf.tensors)} tensors",
        *([] if gguf.dialect == REFERENCE else [f"dialect {gguf.dialect}"]),
        *([] if number is None else [f"file type {file_type_name(number) or number}"]),
    ]
    more = len(report.parts) - 1
    shards = f" and {more} more shard{plural(more)}" if more else ""
    return f"{printable(report.path)}{shards}: {', '.join(parts)}"


def findings_lines(report: Report) -> list[str | Text]:
    """What was found, code by code, with what to do."""
    findings = report.findings
    lines: list[str | Text] = []
    for code, count in sorted(findings.counts.items()):
        entry = CODES[code]
        shown = [finding for finding in findings.kept if finding.code == code][:SHOWN]
        title = (f"{entry.severity} {code} {entry.title}.", COLOURS[entry.severity])
        lines.append(Text.assemble(title, f" {entry.means}"))
        lines += [f"  {finding.message}" for finding in shown]
        if count > len(shown):
            lines.append(f"  and {count - len(shown)} more")
        lines += [f"  What to do: {entry.advice}", ""]
    return lines


def verdict_text(report: Report) -> Text:
    """The verdict and its reason, in the colour of the severest finding."""
    kind, reason, _ = report.verdict
    return Text(f"{kind}: {reason}", _worst(report.findings.counts) or ("green" if kind in GOOD else "yellow"))


def bits_per_weight(tensor: Tensor) -> float | None:
    if tensor.type and tensor.type.row_bytes and tensor.nbytes:
        return 8 * tensor.nbytes / tensor.elements
    return 8 * tensor.type.type_size / tensor.type.block_size if tensor.type else None


def by_type(tensors: Sequence[Tensor]) -> Iterable[tuple[str, list[Tensor]]]:
    """Tensors by type, the type with most bytes first."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.type_name, []).append(tensor)
    return sorted(groups.items(), key=lambda item: -sum(t.nbytes or 0 for t in item[1]))


def totals(tensors: Sequence[Tensor]) -> dict[str, int | float | None]:
    """Sums over the tensors whose size is known."""
    known = [t for t in tensors if t.nbytes is not None]
    elements, nbytes = sum(t.elements for t in known), sum(t.known_nbytes for t in known)
    bits = round(8 * nbytes / elements, 4) if elements else None
    return {"tensors": len(tensors), "elements": elements, "bytes": nbytes, "bits_per_weight": bits}
