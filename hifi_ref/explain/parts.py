"""A page as a list of parts, and its three renderings: text for a terminal, Markdown, HTML.

Text within a part may hold `code` in backticks, and nothing else that is marked.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

WIDTH = 118


class Heading(NamedTuple):
    text: str
    level: int = 2


class Paragraph(NamedTuple):
    text: str


class Table(NamedTuple):
    """Rows under a head; the columns whose numbers are in ``right`` are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[int] = ()


class Listing(NamedTuple):
    """Lines that stay as they are."""

    text: str


class Picture(NamedTuple):
    """``draw`` makes an SVG without empty lines; ``says`` is what it shows, and ``text`` a drawing for a terminal."""

    draw: Callable[[], str]
    says: str
    text: str = ""


class Fold(NamedTuple):
    """Parts that a reader opens; a terminal shows them when all is asked for."""

    summary: str
    parts: Sequence[Part]


Part = Heading | Paragraph | Table | Listing | Picture | Fold


# TEXT


def to_text(parts: Iterable[Part], opened: bool = False) -> str:
    """For a terminal, without colour. ``opened``: with what is folded."""
    return "\n".join(_text(part, opened) for part in parts)


def _text(part: Part, opened: bool) -> str:
    if isinstance(part, Heading):
        return f"{part.text}\n{('=' if part.level < 3 else '-') * len(part.text)}\n"
    if isinstance(part, Paragraph):
        return textwrap.fill(part.text.replace("`", ""), WIDTH, break_on_hyphens=False) + "\n"
    if isinstance(part, Table):
        return _text_table(part)
    if isinstance(part, Listing):
        return textwrap.indent(part.text, "  ") + "\n"
    if isinstance(part, Picture):
        drawing = f"{textwrap.indent(part.text, '  ')}\n" if part.text else ""
        return drawing + textwrap.fill(part.says.replace("`", ""), WIDTH) + "\n"
    if not opened:
        return f"[{part.summary}: --all shows it]\n"
    return f"{part.summary}\n\n{textwrap.indent(to_text(part.parts, opened), '  ')}"


def _text_table(table: Table) -> str:
    rows = [[cell.replace("`", "") for cell in row] for row in (table.head, *table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in table.right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


# MARKDOWN


def to_markdown(parts: Iterable[Part]) -> str:
    """Pictures and folds are HTML in it, without empty lines."""
    return "\n\n".join(_markdown(part) for part in parts) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, Heading):
        return f"{'#' * part.level} {_escaped(part.text)}"
    if isinstance(part, Paragraph):
        return _escaped(part.text)
    if isinstance(part, Table):
        marks = ["---:" if i in part.right else "---" for i in range(len(part.head))]
        rows = [[_escaped(cell).replace("|", "\\|") for cell in row] for row in part.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in ([*part.head], marks, *rows))
    if isinstance(part, Listing):
        return f"```text\n{part.text}\n```"
    return _html(part)


def _escaped(text: str) -> str:
    """Characters that Markdown would take for marks, outside of `code`."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(span if span.startswith("`") else re.sub(r"([\\*_<>\[\]#])", r"\\\1", span) for span in spans)


# HTML


def to_html(parts: Iterable[Part]) -> str:
    """The body of a page, a part a line."""
    return "\n".join(_html(part) for part in parts)


def _html(part: Part) -> str:
    if isinstance(part, Heading):
        return f"<h{part.level}>{_marked(part.text)}</h{part.level}>"
    if isinstance(part, Paragraph):
        return f"<p>{_marked(part.text)}</p>"
    if isinstance(part, Table):
        return _html_table(part)
    if isinstance(part, Listing):
        # An empty line would end a block of HTML in Markdown.
        return f"<pre>{html.escape(part.text, quote=False)}</pre>".replace("\n\n", "\n&#8203;\n")
    if isinstance(part, Picture):
        return f"<figure>{part.draw()}<figcaption>{_marked(part.says)}</figcaption></figure>"
    return f"<details><summary>{_marked(part.summary)}</summary>\n{to_html(part.parts)}\n</details>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        styles = [' class="n"' if i in table.right else "" for i in range(len(cells))]
        made = [f"<{tag}{style}>{_marked(cell)}</{tag}>" for cell, style in zip(cells, styles, strict=True)]
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return f'<div class="scroll"><table><thead>{row(table.head, "th")}</thead><tbody>{body}</tbody></table></div>'


def _marked(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
