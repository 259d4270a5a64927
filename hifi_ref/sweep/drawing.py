"""The sweep's pictures as one SVG, by matplotlib, the same for the same result."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from hifi_ref.sweep import figures
from hifi_ref.sweep.result import Result


def to_svg(result: Result) -> str:
    """Loss against bits, and below it the figures about fp8 scales that were measured. Marks of the most numerous
    families are a raster within it."""
    others = figures.trades(result)
    with matplotlib.rc_context(
        {"svg.hashsalt": "hifi_ref", "svg.fonttype": "none", "font.size": 9, "savefig.dpi": 200}
    ):
        figure = Figure(figsize=(11, 12 if others else 7.5), layout="constrained")
        layout: list[Any] = [["loss", "loss"], ["0", "1"]] if others else [["loss", "loss"]]
        axes = figure.subplot_mosaic(layout, height_ratios=(2, 1)[: len(layout)])
        _loss(axes["loss"], result)
        for name, shown in zip(("0", "1"), [*others, None, None], strict=False):
            if shown is not None:
                _trades(axes[name], shown)
            elif name in axes:
                axes[name].set_axis_off()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _loss(axis: Any, result: Result) -> None:
    for family, points in figures.families(result).items():
        colour, size = figures.STYLES[family]
        axis.scatter(
            [p.bits for p in points], [p.loss for p in points], s=size**2, c=colour, label=f"{family} ({len(points)})",
            linewidths=0, zorder=size, rasterized=len(points) > 1000,
        )  # fmt: skip
    on = result.frontier
    axis.step([p.bits for p in on], [p.loss for p in on], where="post", color=figures.FRONTIER, linewidth=0.8,
              label="frontier", zorder=3)  # fmt: skip
    for gap in result.gaps:
        at = (gap.point.bits, gap.point.loss)
        axis.annotate(
            gap.point.configuration.name, at, fontsize=7, xytext=(4, 3), textcoords="offset points", zorder=20
        )
    axis.set_yscale("log")
    axis.set_xlim(*figures.BITS)
    axis.set_xticks(range(1, 11))
    axis.set_ylim(*figures.losses_shown(result))
    axis.set_xlabel("bits per weight")
    axis.set_ylabel(figures.axis(result.loss))
    axis.set_title(f"{len(result.lines):,} configurations on {result.weights:,} weights of {result.source}")
    axis.grid(True, which="both", linewidth=0.3, color="#cccccc")
    axis.legend(loc="lower left")


def _trades(axis: Any, shown: figures.Trades) -> None:
    axis.scatter([t.bits for t in shown.trades], [t.ratio for t in shown.trades], s=9, c="#0072b2", linewidths=0)
    axis.axhline(1, color=figures.FRONTIER, linewidth=0.8)
    axis.set_yscale("log")
    axis.set_xlabel(shown.bits)
    axis.set_ylabel("loss, as a ratio")
    axis.set_title(shown.title, fontsize=9)
    axis.grid(True, linewidth=0.3, color="#cccccc")
