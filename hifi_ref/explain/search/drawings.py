"""The pictures of a search: the error over the scale, or over scale and min, with the trials on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from hifi_ref.explain import svg

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 704, 260, 62, 26, 40
TRIAL, KEPT, STOP, BEST = "#8a9199", "#c77700", "#c0392b", "#1a7f4b"
CURVE, OTHER = "#3a7cb4", "#9aa7b3"
# From a small error to a large one.
SHADES = ("#103f6d", "#205d94", "#3a7cb4", "#659fcc", "#94bfe0", "#bcd6ec", "#dbe8f4", "#eef1f4")
LEGEND = (
    (TRIAL, "a trial"), (KEPT, "a trial that was the best so far"), (STOP, "where it stops"), (BEST, "the optimum"),
)  # fmt: skip


def search_picture(found: dict[str, Any], title: str) -> str:
    """The picture of what search_data found."""
    return _map_picture(found, title) if "map" in found else _curve_picture(found, title)


def _dots(found: dict[str, Any], place: Callable[[dict[str, Any]], tuple[float, float]]) -> list[str]:
    """The trials, where it stops, and the optimum, the last on top."""
    made = []
    for i, trial in enumerate(found["trials"]):
        words = f"{'begin' if i == 0 else f'trial {i}'}: scale {trial['scale']:g}, error {100 * trial['error']:.3g} %"
        made.append(svg.circle(*place(trial), 3.2, KEPT if trial["kept"] else TRIAL, words))
    made.append(svg.ring(*place(found["stop"]), 6.5, STOP))
    made.append(svg.ring(*place(found["optimum"]), 9.5, BEST))
    return made


def _curve_picture(found: dict[str, Any], title: str) -> str:
    curves = [found[key] for key in ("curve", "other_sign") if key in found]
    scales = curves[0]["scales"]
    seen = [trial["error"] for trial in [*found["trials"], found["optimum"]]]
    top = min(max(max(curve["errors"]) for curve in curves), 3 * max(seen)) or 1.0

    def at(scale: float, error: float) -> tuple[float, float]:
        share = np.interp(abs(scale), scales, np.linspace(0, 1, len(scales)))
        return LEFT + float(share) * (WIDTH - LEFT), TOP + (1 - min(error, top) / top) * (HEIGHT - TOP)

    shapes = svg.legend(LEFT, 2, LEGEND)
    for curve, colour in reversed(list(zip(curves, (CURVE, OTHER), strict=False))):
        points = zip(curve["scales"], curve["errors"], strict=True)
        shapes.append(svg.line([at(scale, error) for scale, error in points], colour, 1.6))
    shapes += _axes(scales, top)
    shapes += _dots(found, lambda trial: at(trial["scale"], trial["error"]))
    return svg.picture(WIDTH + 26, HEIGHT + BOTTOM, title, shapes)


def _axes(scales: list[float], top: float) -> list[str]:
    """Scales across, errors from 0 to ``top`` up."""
    corner = [(LEFT, TOP), (LEFT, HEIGHT), (WIDTH, HEIGHT)]
    shapes = [svg.line(corner, "currentColor", 0.8), svg.text(4, TOP - 8, "error")]
    shapes.append(svg.text((LEFT + WIDTH) / 2, HEIGHT + 32, "size of the scale", "middle"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + share * (WIDTH - LEFT), HEIGHT - share * (HEIGHT - TOP)
        scale = np.interp(share, np.linspace(0, 1, len(scales)), scales)
        shapes.append(svg.text(x, HEIGHT + 15, f"{scale:.4g}", "middle", size=10))
        shapes.append(svg.text(LEFT - 5, y + 4, f"{100 * share * top:.3g} %", "end", size=10))
    return shapes


def _map_picture(found: dict[str, Any], title: str) -> str:
    scales, mins = found["map"]["scales"], found["map"]["mins"]
    errors = np.array(found["map"]["errors"])
    low, high = np.log(max(errors.min(), 1e-12)), np.log(np.quantile(errors, 0.9))
    levels = np.clip((np.log(np.maximum(errors, 1e-12)) - low) / ((high - low) or 1) * 8, 0, 7).astype(int)
    wide, tall = (WIDTH - LEFT) / len(scales), (HEIGHT + 100 - TOP) / len(mins)
    shapes = svg.legend(LEFT, 2, LEGEND)
    for j, row in enumerate(levels.tolist()):
        i = 0
        for level, group in itertools.groupby(row):
            count = len(list(group))
            y = TOP + (len(mins) - 1 - j) * tall
            shapes.append(svg.rect(LEFT + i * wide, y, count * wide + 0.4, tall + 0.4, SHADES[level]))
            i += count

    def place(trial: dict[str, Any]) -> tuple[float, float]:
        x = LEFT + (trial["scale"] - scales[0]) / (scales[-1] - scales[0]) * (WIDTH - LEFT)
        up = (trial.get("min", 0.0) - mins[0]) / (mins[-1] - mins[0])
        return x, TOP + (1 - up) * (HEIGHT + 100 - TOP)

    bottom = HEIGHT + 100
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + share * (WIDTH - LEFT), bottom - share * (bottom - TOP)
        shapes.append(
            svg.text(x, bottom + 15, f"{scales[0] + share * (scales[-1] - scales[0]):.4g}", "middle", size=10)
        )
        shapes.append(svg.text(LEFT - 5, y + 4, f"{mins[0] + share * (mins[-1] - mins[0]):.4g}", "end", size=10))
    shapes += [svg.text((LEFT + WIDTH) / 2, bottom + 32, "scale", "middle"), svg.text(4, TOP - 8, "min")]
    kept = [place(trial) for trial in found["trials"] if trial["kept"]]
    shapes += [svg.line(kept, KEPT, 1.2), *_dots(found, place)]
    return svg.picture(WIDTH + 26, bottom + BOTTOM, title, shapes)
