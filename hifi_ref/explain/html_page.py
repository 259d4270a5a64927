"""Parts as one page for a browser, which loads nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hifi_ref.commands import pages
from hifi_ref.commands.provenance import versions
from hifi_ref.explain.parts import Part, to_html

TEMPLATE = Path(__file__).parent / "explain.html"


def page(title: str, parts: Iterable[Part]) -> str:
    """The whole page."""
    from markupsafe import Markup

    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    return pages.render(TEMPLATE, title=title, content=Markup(to_html(parts)), made=made)
