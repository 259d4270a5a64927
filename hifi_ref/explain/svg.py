"""Small pieces of SVG, for pictures that stand in a page in light and dark alike: text takes the page's colour."""

from __future__ import annotations

import html
from collections.abc import Iterable

# Light tints that dark letters stand on, in the order in which kinds of numbers come.
TINTS = ("#9cc4e8", "#f2b880", "#b5d99c", "#e3a6c4", "#c9b8ec", "#ecd98a", "#a3d9d3", "#d9b8a3", "#c4c9cf", "#f0a39a")
ON_TINT = "#16202a"


EDGE = f'stroke="{ON_TINT}" stroke-opacity=".5" stroke-width=".6"'


def rect(x: float, y: float, width: float, height: float, fill: str, title: str = "", edge: str = "") -> str:
    """A filled rectangle; the title shows under a pointer. ``edge``: its stroke's attributes."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" {edge}'.rstrip()
    return f"{shape}><title>{html.escape(title)}</title></rect>" if title else f"{shape}/>"


def text(x: float, y: float, words: str, anchor: str = "start", fill: str = "currentColor", size: float = 11) -> str:
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}"{anchored} fill="{fill}" font-size="{size:g}">{html.escape(words)}</text>'


def line(points: Iterable[tuple[float, float]], stroke: str = "currentColor", width: float = 1) -> str:
    """An open line through points."""
    path = " ".join(f"{x:.5g},{y:.5g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"/>'


def circle(x: float, y: float, radius: float, fill: str, title: str = "") -> str:
    shape = f'<circle cx="{x:.5g}" cy="{y:.5g}" r="{radius:g}" fill="{fill}"'
    return f"{shape}><title>{html.escape(title)}</title></circle>" if title else f"{shape}/>"


def picture(width: float, height: float, title: str, shapes: Iterable[str]) -> str:
    """The whole picture; the title is its text alternative."""
    name = html.escape(title, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{name}" font-family="system-ui, sans-serif" style="max-width: 100%; height: auto">'
    )
    return "\n".join([head, *shapes, "</svg>"])


def legend(x: float, y: float, entries: Iterable[tuple[str, str]]) -> list[str]:
    """Squares of a colour, each with its words behind it, in a row."""
    shapes = []
    for fill, words in entries:
        shapes += [rect(x, y, 11, 11, fill), text(x + 15, y + 10, words)]
        x += 15 + 6.4 * len(words) + 18
    return shapes


def ring(x: float, y: float, radius: float, stroke: str) -> str:
    return f'<circle cx="{x:.5g}" cy="{y:.5g}" r="{radius:g}" fill="none" stroke="{stroke}" stroke-width="2.4"/>'
