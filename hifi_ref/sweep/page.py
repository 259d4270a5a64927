"""The sweep as one page for a browser, by plotly, whose own script stands in it: nothing is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from hifi_ref.commands import pages
from hifi_ref.commands.provenance import versions
from hifi_ref.sweep import figures
from hifi_ref.sweep.frontier import Point
from hifi_ref.sweep.report import addition_sentence, gap_row
from hifi_ref.sweep.result import Result

TEMPLATE = Path(__file__).parent / "sweep.html"
# Where a reader stands who asks which format to choose.
BITS = (2.1, 2.6, 3.1, 3.5, 4.25, 4.5, 5.0, 5.5, 6.6, 8.5)
CONFIG = {"displaylogo": False, "scrollZoom": True, "responsive": True}
# A family's name, its points, the frontier: what a click on the legend switches.
LABELS = "labels of ggml's formats"


def to_html(result: Result) -> str:
    """The whole page."""
    drawings = [_loss(result), *(_trades(shown) for shown in figures.trades(result))]
    names = ["loss", "half-blocks", "super-blocks"]
    return pages.render(
        TEMPLATE,
        title=f"Loss against bits: {result.source}",
        facts=f"{len(result.lines):,} configurations on {result.weights:,} weights of {result.source}; "
        f"loss: {figures.axis(result.loss)}",
        made=", ".join(f"{name} {version}" for name, version in versions().items()),
        drawings=[
            Markup(drawing.to_html(full_html=False, include_plotlyjs=i == 0, div_id=names[i], config=CONFIG))
            for i, drawing in enumerate(drawings)
        ],
        choices=_choices(result),
        gaps=[gap_row(gap) for gap in result.gaps],
        addition=addition_sentence(result.addition),
        verdicts=[verdict._asdict() for verdict in result.verdicts],
        distances=[[d.format, d.encoder, f"{d.loss:.5g}", f"{d.least:.5g}", f"{d.ratio:.3f}", d.given or "nothing"]
                   for d in result.distances],
    )  # fmt: skip


def _choices(result: Result) -> list[list[str]]:
    """At so many bits: the best of ggml's formats, and the best of all."""
    rows = []
    for bits in BITS:
        able = [p for p in result.points if p.bits <= bits]
        ggml = [p for p in able if p.configuration.family == "llama.cpp"]
        if able and ggml:
            own, best = (min(points, key=lambda p: p.loss) for points in (ggml, able))
            less = f"{1 - best.loss / own.loss:.1%} less" if best.loss < own.loss else "nothing better"
            rows.append([f"{bits:g}", own.configuration.name, f"{own.loss:.5g}", best.configuration.name, less])
    return rows


def _loss(result: Result) -> go.Figure:
    figure = go.Figure()
    for number, (family, points) in enumerate(figures.families(result).items()):
        _add_family(figure, family, points, -number)
    on = result.frontier
    figure.add_scatter(
        x=[p.bits for p in on], y=[p.loss for p in on], name="frontier", mode="lines", hoverinfo="skip", zorder=1,
        line={"shape": "hv", "width": 1.2, "color": figures.FRONTIER},
    )  # fmt: skip
    own = [gap.point for gap in result.gaps]
    figure.add_scatter(
        x=[p.bits for p in own], y=[p.loss for p in own], text=[p.configuration.name for p in own], name=LABELS,
        mode="text", textposition="top right", textfont={"size": 10}, hoverinfo="skip", zorder=2,
    )  # fmt: skip
    figure.update_layout(_layout("bits per weight", figures.axis(result.loss)), height=640)
    figure.update_xaxes(range=figures.BITS, dtick=1)
    figure.update_yaxes(type="log", range=[math.log10(loss) for loss in figures.losses_shown(result)])
    return figure


def _add_family(figure: go.Figure, family: str, points: list[Point], above: int) -> None:
    """Of marks under the pointer plotly takes the first family's if none is wider than 6; a line makes them wider."""
    colour, size = figures.STYLES[family]
    marker = {"color": colour, "size": min(size + 1, 6), "line": {"color": colour, "width": max(size - 6, 0)}}
    figure.add_scatter(
        x=[p.bits for p in points], y=[p.loss for p in points], text=[p.configuration.name for p in points],
        name=f"{family} ({len(points)})", mode="markers", marker=marker, zorder=above,
        hovertemplate="<b>%{text}</b><br>%{x:.5~g} bits, loss %{y:.5~g}<extra>" + family + "</extra>",
    )  # fmt: skip


def _trades(shown: figures.Trades) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(
        x=[t.bits for t in shown.trades], y=[t.ratio for t in shown.trades], text=[t.name for t in shown.trades],
        mode="markers", marker={"color": figures.STYLES["hyper-single"][0], "size": 6}, showlegend=False,
        hovertemplate="<b>%{text}</b><br>%{x:.5~g}, loss times %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(type="log")
    figure.add_hline(1, line={"width": 1, "color": figures.FRONTIER})
    figure.update_layout(_layout(shown.bits, "loss, as a ratio"), height=380, title={"text": shown.title})
    return figure


def _layout(bits: str, loss: str) -> dict[str, Any]:
    """White, since it is printed too; the legend below, where a phone has room."""
    return {
        "template": "plotly_white", "hovermode": "closest", "dragmode": "zoom", "autosize": True,
        "margin": {"l": 60, "r": 15, "t": 40, "b": 50}, "legend": {"orientation": "h", "y": -0.12, "yanchor": "top"},
        "xaxis": {"title": {"text": bits}}, "yaxis": {"title": {"text": loss}},
    }  # fmt: skip
