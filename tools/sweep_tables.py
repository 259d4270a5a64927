"""`python -m tools.sweep_tables REPORT.json [OPTIMUM.json]`: the tables of docs/sweep.md, from reports of the sweep.

REPORT is what `python -m hifi_ref.sweep gauss --svg=docs/sweep.svg --json=REPORT.json` writes. OPTIMUM, where it is
another, is one with --optimum=16384.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tools.neighbours_table import replaced

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sweep.md"
# The frontier has over a hundred points: the last of each so many bits is shown.
STEP = 0.5


def main() -> None:
    report, optimum = (json.loads(Path(path).read_text()) for path in (sys.argv[1], sys.argv[-1]))
    text = PAGE.read_text()
    for mark, rows in (
        ("frontier", frontier(report)), ("gaps", gaps(report)), ("claims", claims(report)), ("optimum", least(optimum)),
    ):  # fmt: skip
        head, *others = ("| " + " | ".join(row) + " |" for row in rows)
        text = replaced(text, mark, "\n".join([head, "|---" * len(rows[0]) + "|", *others]))
    PAGE.write_text(text)


def frontier(report: dict[str, Any]) -> list[list[str]]:
    by_name = {c["name"]: c for c in report["configurations"]}
    last: dict[float, dict[str, Any]] = {}
    for configuration in map(by_name.__getitem__, report["frontier"]):
        last[-(-configuration["bits"] // STEP)] = configuration
    shown = [(c, f"{100 * c['losses'][report['loss']]:.3f}%") for c in last.values() if c["bits"] <= 10]
    return [["bits", "loss", "configuration"], *([f"{c['bits']:.5g}", loss, _name(c)] for c, loss in shown)]


def gaps(report: dict[str, Any]) -> list[list[str]]:
    by_name = {c["name"]: c for c in report["configurations"]}
    rows = []
    for gap in report["ggml"]:
        own = by_name[gap["name"]]
        loss = f"{100 * own['losses'][report['loss']]:.3f}%"
        others = ["-", "-", "-"]
        if gap["ratio"] > 1:
            others = [f"{gap['ratio']:.3f}", gap["lowest"], f"{gap['bits_saved']:.3f}"]
        rows.append([gap["name"], f"{own['bits']:.5g}", loss, *others])
    return [["format", "bits", "loss", "times the least", "which is", "bits less with its loss"], *rows]


def claims(report: dict[str, Any]) -> list[list[str]]:
    words = {True: "holds", False: "does not hold", None: "not judged"}
    return [["claim", "", "measured"], *([v["claim"], words[v["holds"]], v["sentence"]] for v in report["verdicts"])]


def least(report: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            d["format"],
            d["encoder"],
            f"{100 * d['loss']:.3f}%",
            f"{100 * d['least']:.3f}%",
            f"{d['ratio']:.3f}",
            d["given"] or "-",
        ]
        for d in report["optimum"]
    ]
    return [["format", "encoder", "loss", "least", "times", "given"], *rows]


def _name(configuration: dict[str, Any]) -> str:
    name = configuration["name"]
    return f"**{name}**" if configuration["family"] == "llama.cpp" else name


if __name__ == "__main__":
    main()
