"""How a format's encoder searched a block, as parts of its page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hifi_ref.explain.parts import Fold, Heading, Paragraph, Part, Picture, Table
from hifi_ref.explain.search.drawings import search_picture

BARS = "▁▂▃▄▅▆▇█"
# Columns of a curve on a terminal, and rows of a map that make one line of it.
COLUMNS, ROWS_A_LINE = 96, 2


def search_parts(found: dict[str, Any] | None) -> list[Part]:
    """The parts about what search_data found; none for None."""
    if found is None:
        return []
    name = f"sub-block {found['sub_block']}" if len(found["sub_blocks"]) > 1 else "the block"
    what = "Over scale and min" if "map" in found else "Over the size of the scale"
    other = "; the paler line is the other sign of the scale" if "other_sign" in found else ""
    says = f"{what}, the error of {name}{'; darker is smaller' if 'map' in found else other}."
    rows = [
        (str(s), f"{100 * row['begin']:.3g} %", f"{100 * row['stop']:.3g} %", f"{100 * row['optimum']:.3g} %")
        for s, row in enumerate(found["sub_blocks"])
    ]
    head = ("sub-block", "at the beginning", "where it stops", "the optimum")
    return [
        Heading("How its search thinks"),
        Paragraph(found["says"]),
        Paragraph(f"Recorded while the weights were encoded: {_result(found, name)}"),
        Picture(lambda: search_picture(found, f"{says} {_result(found, name)}"), says, _drawn(found)),
        Fold("Its trials, one by one", [_trials(found)]),
        *([Fold("All sub-blocks", [Table(head, rows, right=(0, 1, 2, 3))])] if len(rows) > 1 else []),
        Paragraph("Errors are sums of squares, each weighted as the search weighs it, relative to the weights' own; "
                  "they are those of scales as they are found, before these are rounded to what a block stores. "
                  f"{_optimum(found)}"),
    ]  # fmt: skip


def _result(found: dict[str, Any], name: str) -> str:
    begin, stop, best = found["trials"][0]["error"], found["stop"]["error"], found["optimum"]["error"]
    tried, kept = len(found["trials"]) - 1, sum(trial["kept"] for trial in found["trials"]) - 1
    more = stop / best - 1 if best else 0.0
    end = "which is the optimum" if more < 1e-3 else f"{100 * more:.3g} % above the optimum, {100 * best:.3g} %"
    if not tried:
        return f"{name} has an error of {100 * stop:.3g} %, {end}."
    return (
        f"{name} begins at an error of {100 * begin:.3g} %; of {tried} trials {kept} were better than all before, and "
        f"it stops at {100 * stop:.3g} %, {end}."
    )


def _optimum(found: dict[str, Any]) -> str:
    if "map" in found:
        return "The optimum is the best that was found from a lattice of 1,600 starts."
    if len(found["trials"]) == 1:
        return "The optimum is the best power of two."
    if "other_sign" in found:
        return "The optimum is exact: every choice of codes that any scale gives was tried."
    return "The optimum is the best of 400 scales, each with the best of all rows of the grid."


def _trials(found: dict[str, Any]) -> Table:
    with_min = "map" in found
    rows = [
        (str(i), f"{trial['scale']:g}", *([f"{trial.get('min', 0):g}"] if with_min else []),
         f"{100 * trial['error']:.4g} %", "yes" if trial["kept"] else "")
        for i, trial in enumerate(found["trials"])
    ]  # fmt: skip
    head = ("trial", "scale", *(["min"] if with_min else []), "error", "best so far")
    return Table(head, rows, right=tuple(range(3 + with_min)))


def _drawn(found: dict[str, Any]) -> str:
    """For a terminal: the curve as bars, and below it where the trials lie; or the map in shades, with them on it."""
    drawn = _drawn_map(found["map"], found) if "map" in found else _drawn_curve(found["curve"], found)
    return f"{drawn}\n. a trial, S where it stops, O the optimum"


def _marks(found: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for marked, letter in ((found["trials"], "."), ([found["stop"]], "S"), ([found["optimum"]], "O")):
        yield from ((trial, letter) for trial in marked)


def _drawn_curve(curve: dict[str, list[float]], found: dict[str, Any]) -> str:
    columns = min(COLUMNS, len(curve["scales"]))
    picked = np.rint(np.linspace(0, len(curve["scales"]) - 1, columns)).astype(int)
    scales, errors = np.array(curve["scales"])[picked], np.array(curve["errors"])[picked]
    marks = [" "] * columns
    for trial, letter in _marks(found):
        marks[round(np.interp(abs(trial["scale"]), scales, np.arange(columns)))] = letter
    return f"{''.join(BARS[level] for level in _shades(errors))}\n{''.join(marks).rstrip()}"


def _drawn_map(around: dict[str, Any], found: dict[str, Any]) -> str:
    errors = np.array(around["errors"])[::ROWS_A_LINE]
    scales, mins = np.array(around["scales"]), np.array(around["mins"])[::ROWS_A_LINE]
    drawn = np.repeat(np.array(list(BARS))[_shades(errors)], 2, axis=1)
    for trial, letter in _marks(found):
        row = round(np.interp(trial.get("min", 0.0), mins, np.arange(len(mins))))
        drawn[row, 2 * round(np.interp(trial["scale"], scales, np.arange(len(scales))))] = letter
    return "\n".join(["min above, scale to the right", *("".join(row) for row in drawn[::-1])])


def _shades(errors: np.ndarray) -> np.ndarray:
    """0 for the least error to 7 for the largest, by their logarithm."""
    logs = np.log(np.maximum(errors, 1e-12))
    return np.clip(8 * (logs - logs.min()) / ((logs.max() - logs.min()) or 1), 0, 7).astype(int)
