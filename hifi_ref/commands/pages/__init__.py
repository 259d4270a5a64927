"""One look for the pages of all commands: page.html, which a command's own template extends, and style.css.

A page loads nothing: the stylesheet stands in it, and pictures are data in it.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).parent


def render(template: Path, **values: object) -> str:
    """A whole page from a command's template. Text among the values is escaped."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)
