"""What `check` found, as one page for a browser: nothing in it refers to anything outside it.

A tensor's map shows its blocks in order, up to 256 cells: blue where the error is what is usual in the tensor, darker
above, lighter below; orange to red where blocks differ from the reference's. Beside it the histogram of its blocks'
errors, relative to their weights.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np

from hifi_ref.check.comparison import DIFFERS, OTHERWISE, REPRODUCED, TensorResult
from hifi_ref.check.report import Report, bits_per_weight, by_type, headline, totals
from hifi_ref.model_files.findings import CODES

MAP_WIDTH = 32
# From few to many differing blocks in a cell, and from a small error to a large one.
HOT = np.array([(255, 205, 110), (240, 120, 40), (170, 20, 20)], float)
COLD = np.array([(222, 235, 247), (107, 160, 208), (8, 48, 107)], float)
EMPTY = (245, 245, 245)

STYLE = """
:root { color-scheme: light; --good: #1a7f4b; --warn: #9a6700; --bad: #b42318; --soft: #f4f5f7; --line: #dfe2e6; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1d2329; margin: 2rem auto; max-width: 1320px; padding: 0 1rem; }
h1 { font-size: 1.35rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
.facts { color: #57606a; margin: 0 0 1rem; overflow-wrap: anywhere; }
.verdict { border-left: 6px solid var(--c); background: var(--soft); padding: .8rem 1rem; border-radius: 4px;
  overflow-wrap: anywhere; }
.verdict b { color: var(--c); }
.good { --c: var(--good); } .warn { --c: var(--warn); } .bad { --c: var(--bad); } .none { --c: #57606a; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 0; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .9rem; min-width: 8rem; }
.tile strong { display: block; font-size: 1.3rem; } .tile span { color: #57606a; }
table { border-collapse: collapse; width: 100%; } .scroll { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
th { font-weight: 600; color: #57606a; white-space: nowrap; } td.n { text-align: right; }
.shape { white-space: nowrap; } td.n, .name { font-variant-numeric: tabular-nums; }
.name { overflow-wrap: anywhere; min-width: 10rem; }
.chip { color: #fff; background: var(--c); border-radius: 9px; padding: 0 .55rem; white-space: nowrap; }
img.map { width: 160px; image-rendering: pixelated; border: 1px solid var(--line); display: block; }
svg { display: block; } .bar { fill: #6ba0d0; } .axis { fill: #57606a; font-size: 10px; } .base { stroke: #9aa2ab; }
.formats { display: flex; flex-wrap: wrap; gap: 1.4rem; } .formats figure { margin: 0; }
figcaption { font-weight: 600; } .finding { border-left: 4px solid var(--c); padding-left: .8rem; margin: .8rem 0; }
.finding ul { margin: .3rem 0; padding-left: 1.2rem; overflow-wrap: anywhere; } .legend { color: #57606a; }
.cell { display: inline-block; width: 12px; height: 12px; vertical-align: -2px; border: 1px solid var(--line); }
"""


def to_html(report: Report) -> str:
    """The whole page."""
    results = {} if report.comparison is None else {r.name: r for r in report.comparison.results}
    kind, word, sentence = _verdict(report)
    path, facts = headline(report).rsplit(": ", 1)
    body = [
        f"<h1>{escape(path)}</h1>",
        f'<p class="facts">{escape(facts)}</p>',
        f'<p class="verdict {kind}"><b>{word}</b> {escape(sentence)}</p>',
        _tiles(report, results),
        _findings(report),
        _formats(report, results),
        _tensors(report, results),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">\n<title>{escape(path)}</title>'
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{chr(10).join(part for part in body if part)}\n</body>\n</html>\n"
    )


def _verdict(report: Report) -> tuple[str, str, str]:
    """A colour's class, a word, and a sentence."""
    severities = {CODES[code].severity for code in report.findings.counts}
    kind = "bad" if "error" in severities else "warn" if severities else "good"
    words = "Sound" if report.sound else "Not sound"
    if report.comparison is None:
        count = report.findings.counts.total()
        return kind, f"{words}.", f"{count} findings." if count else "No findings."
    words += ", reproduced." if report.reproduced else ", not reproduced."
    return kind, words, report.verdict


def _tiles(report: Report, results: dict[str, TensorResult]) -> str:
    total = totals(report.gguf.tensors)
    shown = {"tensors": "tensors", "elements": "weights", "bytes": "bytes"}
    tiles = [(f"{total[what]:,}", unit) for what, unit in shown.items()]
    if total["bits_per_weight"] is not None:
        tiles.append((f"{total['bits_per_weight']:.3g}", "bits per weight"))
    if results:
        same = sum(r.outcome == REPRODUCED for r in results.values())
        judged = sum(r.blocks_judged for r in results.values())
        tiles += [
            (f"{same} of {len(results)}", "tensors reproduced"),
            (f"{sum(r.blocks_differing for r in results.values()):,} of {judged:,}", "blocks differ"),
        ]
    drawn = "".join(f'<div class="tile"><strong>{big}</strong><span>{small}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{drawn}</div>'


def _findings(report: Report) -> str:
    parts = []
    for code, count in sorted(report.findings.counts.items()):
        entry = CODES[code]
        kept = [f.message for f in report.findings.kept if f.code == code]
        items = "".join(f"<li>{escape(message)}</li>" for message in kept[:20])
        more = f"<li>and {count - 20} more</li>" if count > 20 else ""
        kind = "bad" if entry.severity == "error" else "warn"
        parts.append(
            f'<div class="finding {kind}"><span class="chip">{entry.severity} {code}</span> <b>{entry.title}.</b> '
            f"{escape(entry.means)}<ul>{items}{more}</ul>What to do: {escape(entry.advice)}</div>"
        )
    return f"<h2>Findings</h2>\n{''.join(parts)}" if parts else ""


def _formats(report: Report, results: dict[str, TensorResult]) -> str:
    """A histogram of the blocks' errors for each quantized format."""
    figures = []
    for name, tensors in by_type(report.gguf.tensors):
        bars = [results[t.name].histogram for t in tensors if t.name in results and results[t.name].histogram]
        if bars:
            counts = np.sum(bars, axis=0).tolist()
            drawn = _histogram(counts, 300, 90, True)
            figures.append(f"<figure><figcaption>{escape(name)}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    return f'<h2>Error of the blocks, relative to their weights</h2>\n<div class="formats">{"".join(figures)}</div>'


def _tensors(report: Report, results: dict[str, TensorResult]) -> str:
    columns = ["tensor", "type", "shape", "bits", "blocks"]
    compared = ["from the source", "map", "error of blocks", "rms error", "signal to noise"]
    columns += compared if results else ["findings"]
    rows = []
    for t in report.gguf.tensors:
        bits = bits_per_weight(t)
        cells = [
            f'<td class="name">{escape(t.name)}</td><td>{escape(t.type_name)}</td>',
            f'<td class="shape">{" x ".join(map(str, t.shape)) or "1"}</td>',
            f'<td class="n">{"" if bits is None else f"{bits:.4g}"}</td><td class="n">{t.blocks or ""}</td>',
        ]
        cells += _compared(results.get(t.name)) if results else [f"<td>{' '.join(t.codes) or '-'}</td>"]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{column}</th>" for column in columns)
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(rows)}\n</tbody></table>"
    return f'<h2>Tensors</h2>\n{_LEGEND if results else ""}\n<div class="scroll">{table}</div>'


_LEGEND = (
    '<p class="legend">Maps show blocks in order, row by row. '
    + "".join(
        f'<span class="cell" style="background: rgb{tuple(int(c) for c in colour)}"></span> {words} '
        for colour, words in [
            (COLD[0], "half the usual error of the tensor,"), (COLD[1], "the usual error,"), (COLD[2], "twice that;"),
            (HOT[0], "a few blocks differ from the reference's,"), (HOT[2], "all of them differ"),
        ]
    )
    + "</p>"
)  # fmt: skip


def _compared(result: TensorResult | None) -> list[str]:
    if result is None:
        return ["<td>-</td>", *["<td></td>"] * 4]
    kinds = {REPRODUCED: "good", OTHERWISE: "warn", DIFFERS: "bad"}
    kind = "warn" if result.meaning in ("profile", "encoder") else kinds.get(result.outcome, "none")
    outcome = (
        f"{result.blocks_differing} of {result.blocks_judged} differ" if result.blocks_differing else result.outcome
    )
    why = result.meaning or ""
    chip = f'<span class="chip {kind}">{escape(outcome)}</span> {escape(why)}'
    errors = result.errors
    noise = errors.get("signal_to_noise_db")
    return [
        f"<td>{chip}</td>",
        f"<td>{_map(result)}</td>",
        f"<td>{_histogram(result.histogram, 130, 34, False) if result.histogram else ''}</td>",
        f'<td class="n">{errors["rms"]:.3g}</td>' if errors else "<td></td>",
        f'<td class="n">{"exact" if errors and noise is None else f"{noise:.1f} dB" if errors else ""}</td>',
    ]


def _map(result: TensorResult) -> str:
    errors = np.array(result.map.get("relative_error", []), float)
    if len(errors) < 2 or not (errors.any() or result.blocks_differing):
        return ""
    differing = np.array(result.map["differing"], float)
    usual = np.median(errors[errors > 0]) if (errors > 0).any() else 1.0
    level = np.clip((np.log2(np.maximum(errors, 1e-30) / usual) + 1) / 2, 0, 1)
    share = differing / max(1.0, result.blocks_judged / len(errors))
    colours = np.where(differing[:, None] > 0, _shade(HOT, np.clip(share, 0, 1)), _shade(COLD, level))
    height = -(-len(errors) // MAP_WIDTH)
    pixels = np.empty((height * MAP_WIDTH, 3), np.uint8)
    pixels[:] = EMPTY
    pixels[: len(errors)] = colours
    title = f"{int(differing.sum())} differing blocks; error {errors.min():.3g} to {errors.max():.3g} of the weights"
    data = base64.b64encode(_png(pixels.reshape(height, MAP_WIDTH, 3))).decode()
    return f'<img class="map" alt="{title}" title="{title}" src="data:image/png;base64,{data}">'


def _shade(colours: np.ndarray, level: np.ndarray) -> np.ndarray:
    """[n] from 0 to 1 -> [n, 3]: between the first and the last of three colours."""
    return np.stack([np.interp(level, (0, 0.5, 1), colours[:, c]) for c in range(3)], axis=1)


def _png(pixels: np.ndarray) -> bytes:
    """u8[height, width, 3] as a PNG."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _histogram(counts: Sequence[int], width: int, height: int, with_axis: bool) -> str:
    """Bars from a relative error of 2^-12, or less, to 1, or more, four per factor of two."""
    room = height - (14 if with_axis else 1)
    most, step = max(1, *counts), width / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{i * step:.1f}" y="{room - n / most * room:.1f}" width="{step - 0.6:.1f}" '
        f'height="{n / most * room:.1f}"><title>{n} blocks</title></rect>'
        for i, n in enumerate(counts)
        if n
    )
    marks = ""
    if with_axis:
        for power, label in ((-10, "0.1 %"), (-7, "0.8 %"), (-4, "6 %"), (-1, "50 %")):
            x = (4 * power + len(counts)) * step
            marks += f'<text class="axis" x="{x:.0f}" y="{height - 2}" text-anchor="middle">{label}</text>'
    base = f'<line class="base" x1="0" x2="{width}" y1="{room}" y2="{room}"/>'
    label = "distribution of the blocks' relative errors"
    return f'<svg width="{width}" height="{height}" role="img" aria-label="{label}">{bars}{base}{marks}</svg>'
