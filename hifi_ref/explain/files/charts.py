"""Pictures of a tensor: how often each code comes, and lines over its blocks."""

from __future__ import annotations

from collections.abc import Sequence

from hifi_ref.explain import svg

WIDTH, HEIGHT, LEFT, TOP = 704, 130, 62, 22
FILL, STRONG = "#6ba0d0", "#c77700"
BARS = "▁▂▃▄▅▆▇█"


def bars(counts: Sequence[int], first: int, title: str) -> str:
    """A bar a value, from ``first`` on."""
    most, step = max(1, *counts), (WIDTH - LEFT) / len(counts)
    shapes = [
        svg.rect(LEFT + i * step, TOP + (1 - n / most) * HEIGHT, max(step - 1, 0.6), n / most * HEIGHT, FILL,
                 f"{first + i}: {n}")
        for i, n in enumerate(counts) if n
    ]  # fmt: skip
    every = max(1, len(counts) // 16)
    marks = [
        svg.text(LEFT + (i + 0.5) * step, TOP + HEIGHT + 15, str(first + i), "middle", size=10)
        for i in range(0, len(counts), every)
    ]
    floor = svg.line([(LEFT, TOP + HEIGHT), (WIDTH, TOP + HEIGHT)], "currentColor", 0.8)
    return svg.picture(WIDTH + 12, TOP + HEIGHT + 24, title, [*shapes, floor, *marks])


def lines(series: Sequence[tuple[str, Sequence[float]]], last: int, unit: str, title: str) -> str:
    """Lines from 0 up, over cells that go from the first to number ``last`` of a unit."""
    top = max((value for _, values in series for value in values), default=0.0) or 1.0
    shapes = svg.legend(LEFT, 2, [(colour, name) for (name, _), colour in zip(series, (FILL, STRONG), strict=False)])
    for (_, values), colour in zip(series, (FILL, STRONG), strict=False):
        step = (WIDTH - LEFT) / max(1, len(values))
        points = [
            (LEFT + (i + side) * step, TOP + (1 - value / top) * HEIGHT)
            for i, value in enumerate(values)
            for side in (0, 1)
        ]
        shapes.append(svg.line(points, colour, 1.6))
    corner = [(LEFT, TOP), (LEFT, TOP + HEIGHT), (WIDTH, TOP + HEIGHT)]
    shapes.append(svg.line(corner, "currentColor", 0.8))
    for share in (0, 0.5, 1):
        shapes.append(svg.text(LEFT - 5, TOP + (1 - share) * HEIGHT + 4, f"{share * top:.3g}", "end", size=10))
    shapes.append(svg.text(LEFT, TOP + HEIGHT + 15, f"{unit} 0", size=10))
    shapes.append(svg.text(WIDTH, TOP + HEIGHT + 15, str(last), "end", size=10))
    return svg.picture(WIDTH + 12, TOP + HEIGHT + 24, title, shapes)


def spark(values: Sequence[float], columns: int = 96) -> str:
    """Bars of one line for a terminal: the largest of so many neighbours each."""
    step = max(1, -(-len(values) // columns))
    picked = [max(values[i : i + step]) for i in range(0, len(values), step)]
    top = max(picked, default=0) or 1
    return "".join(BARS[min(7, int(8 * value / top))] for value in picked)
