"""The tables of docs/roadmaps.md and its drawing, docs/roadmaps.svg, from what was measured."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.neighbours_table import replaced
from tools.roadmaps.claims import CLAIMS, judgement

PAGE, DRAWING = "roadmaps.md", "roadmaps.svg"
Found = Mapping[str, Any]
# Of each family its title, colour and mark.
STYLES = {
    "type": ("llama.cpp's types", "#555555", "o"), "mixture": ("llama.cpp's mixtures", "#000000", "s"),
    "HIFI": ("HIFI", "#d55e00", "^"), "LITE": ("LITE", "#e69f00", "v"), "fork": ("the fork's mixtures", "#cc79a7", "D"),
    "roadmap": ("the roadmaps' mixtures", "#d00000", "*"), "neighbour": ("other systems", "#0072b2", "x"),
    "file": ("files", "#009e73", "P"),
}  # fmt: skip
# Families whose rows are all named in the drawing.
NAMED = ("HIFI", "LITE", "roadmap")
BITS, DIVERGENCES, CHANGES = (1, 9.2), (2e-5, 4), (-1, 1500)


def write(found: Found, folder: Path) -> None:
    """Write the tables into the page, at its end where it has no place for one, and the drawing beside it."""
    path = folder / PAGE
    text = path.read_text() if path.exists() else ""
    for mark, rows in tables(found).items():
        if f"<!-- {mark} -->" not in text:
            text += f"## {mark}\n\n<!-- {mark} -->\n<!-- /{mark} -->\n\n"
        text = replaced(text, mark, "\n".join(lines(rows)))
    path.write_text(text)
    (folder / DRAWING).write_text(drawing(found))


def tables(found: Found) -> dict[str, list[list[str]]]:
    """By mark, with a head each; one of files where there are any."""
    rows = found["rows"]
    files = _single(rows, "file")
    return {
        "claims": _claims(rows),
        "floors": _single(rows, "floor"),
        "types": _pairs(rows, ("type",)),
        "mixtures": _pairs(rows, ("mixture",)),
        "outliers": _pairs(rows, ("HIFI", "LITE", "fork", "roadmap")),
        "neighbours": _single(rows, "neighbour"),
        "files": _single(rows, "file"),
        "parts": _parts(rows),
    } | ({"files": files} if len(files) > 1 else {})


def lines(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    head, *others = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|---" * len(rows[0]) + "|", *others]


def _claims(rows: Found) -> list[list[str]]:
    judged = [(claim, *judgement(claim, rows)) for claim in CLAIMS]
    return [["claim", "of", "here", "figures"], *([c.text, c.source, found, said] for c, found, said in judged)]


HEAD = ["name", "bits", "error", "perplexity", "divergence", "same first"]


def _pairs(rows: Found, families: Sequence[str]) -> list[list[str]]:
    """By size: without importance, and with it."""
    names = {(row["family"], row["name"]): row["bits"] for row in rows.values() if row["family"] in families}
    found = []
    for family, name in sorted(names, key=lambda key: (names[key], key)):
        plain, weighted = (rows.get(f"{family}: {name}{given}") for given in ("", ", importance mixed"))
        title = f"{family}: {name}" if family in ("fork", "roadmap") else name
        cells = [_error(plain), *_cells(plain), _same(plain), *_cells(weighted)]
        found.append([title, f"{names[family, name]:.4g}", *cells])
    return [[*HEAD, "perplexity, importance", "divergence, importance"], *found]


def _single(rows: Found, family: str) -> list[list[str]]:
    own = sorted((row for row in rows.values() if row["family"] == family), key=lambda row: (row["bits"], row["name"]))
    return [HEAD, *([row["name"], f"{row['bits']:.4g}", _error(row), *_cells(row), _same(row)] for row in own)]


def _error(row: Found | None) -> str:
    return "-" if row is None or row["error"] is None else f"{100 * row['error']:.2f} %"


def _parts(rows: Found) -> list[list[str]]:
    own = sorted(
        (row for row in rows.values() if row["family"] == "part"), key=lambda r: -r["divergence"][0] / r["share"]
    )
    head = ["in Q2_K alone", "of the weights", "perplexity", "divergence", "divergence by share"]
    return [
        head,
        *(
            [row["name"].split(" in ")[0], f"{100 * row['share']:.1f} %", *_cells(row),
             f"{row['divergence'][0] / row['share']:.3f}"]
            for row in own
        ),
    ]  # fmt: skip


def _cells(row: Found | None) -> list[str]:
    """The change of the perplexity in per cent and the divergence in nats, each with its uncertainty."""
    if row is None:
        return ["-", "-"]
    return [f"{row['change'][0]:+.2f} ± {row['change'][1]:.2f} %", _shown(*row["divergence"])]


def _shown(value: float, uncertainty: float) -> str:
    """With two digits of the uncertainty."""
    digits = 1 - math.floor(math.log10(uncertainty)) if uncertainty else 1
    return f"{value:.{digits}f} ± {uncertainty:.{digits}f}"


def _same(row: Found | None) -> str:
    return "-" if row is None else f"{100 * row['same'][0]:.1f} %"


def drawing(found: Found) -> str:
    """Divergence and perplexity against size, as SVG, with bars of two uncertainties; the line joins what llama.cpp has
    that nothing of its own beats in no more bits."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "hifi_ref", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(11, 11), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        by_family = {family: best(found["rows"], family) for family in STYLES}
        own = frontier([*by_family["type"], *by_family["mixture"]])
        axes[0].step(
            [row["bits"] for row in own], [row["divergence"][0] for row in own], where="post", color="#888888",
            linewidth=0.6,
        )  # fmt: skip
        for family, rows in by_family.items():
            for axis, value in zip(axes, ("divergence", "change"), strict=True):
                _points(axis, rows, value, STYLES[family])
            for row in rows if family in NAMED else [row for row in rows if row in own]:
                axes[0].annotate(
                    row["name"], (row["bits"], row["divergence"][0]), fontsize=5, xytext=(3, 2),
                    textcoords="offset points", color=STYLES[family][1],
                )  # fmt: skip
        axes[0].set(xlim=BITS, yscale="log", ylim=DIVERGENCES, ylabel="divergence from F16, nats")
        axes[0].legend()
        axes[1].set_yscale("symlog", linthresh=1)
        axes[1].set(ylim=CHANGES, ylabel="change of the perplexity, %", xlabel="bits per weight")
        for axis in axes:
            axis.grid(True, which="both", linewidth=0.3, color="#cccccc")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def best(rows: Found, family: str) -> list[Found]:
    """Of each name of a family the row with less divergence, without importance or with it."""
    found: dict[str, Found] = {}
    for row in rows.values():
        if row["family"] == family and row["importance"] in ("", "mixed"):
            known = found.get(row["name"], row)
            found[row["name"]] = min(known, row, key=lambda each: each["divergence"][0])
    return list(found.values())


def frontier(rows: Sequence[Found]) -> list[Found]:
    """Rows that no other beats in no more bits, by size."""
    found: list[Found] = []
    for row in sorted(rows, key=lambda each: (each["bits"], each["divergence"][0])):
        if not found or row["divergence"][0] < found[-1]["divergence"][0]:
            found.append(row)
    return found


def _points(axis: Any, rows: Sequence[Found], value: str, style: tuple[str, str, str]) -> None:
    title, colour, mark = style
    axis.errorbar(
        [row["bits"] for row in rows], [row[value][0] for row in rows], [2 * row[value][1] for row in rows],
        fmt=mark, color=colour, label=title, markersize=4, linewidth=0.7, alpha=0.8,
    )  # fmt: skip
