"""What mkdocs cannot do of itself for the site: pages from other places of the repository, and links between them.

mkdocs calls the functions named on_... (mkdocs.yml names this file). Every page has an origin, a path in the
repository; links are those of the origin, and lead to the page that has the target as its origin. What is linked and
is no page becomes one that shows the file.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Pages that are made of Markdown outside of docs/, or are put elsewhere.
MOVED = {
    "index.md": "README.md",
    "documents.md": "docs/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "golden.md": "golden/README.md",
    "notebook/blocks.md": "docs/notebook/blocks.ipynb",
}
# What hifi_ref offers, in the order of use.
API = ("encode", "decode", "dot", "matmul", "dot_exact", "Format", "DotBound")
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".mjs": "js", ".js": "js", ".rs": "rust", ".json": "json"}
# Shown as pages where something links to them.
SHOWN = ("adapters/", "examples/", "notebook/")
LINK = re.compile(r"(\]\()([^)\s:#]*)((?:#[\w.-]*)?\))")
# A listing: whole, and its fence.
LISTING = re.compile(r"(^ *(```|~~~~~)[^\n]*\n.*?^ *\2$)", re.DOTALL | re.MULTILINE)
# Of longer files a page shows the beginning.
LONGEST = 60_000
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
# Page -> origin, while a site is made.
ORIGINS: dict[str, str] = {}


# PAGES


def on_config(config: Any) -> Any:
    """The formats into the navigation."""
    sys.path.append(str(ROOT))
    (formats,) = (section["Formats"] for section in config.nav if "Formats" in section)
    of_the_fork = [page for page in format_pages() if "/hifi/" in source_of(page)]
    formats[1:] = [page for page in format_pages() if page not in of_the_fork] + [{"HIFI and LITE": of_the_fork}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made, and a page for each file that some page links to."""
    for file in [f for f in files if f.src_uri == "README.md" or f.src_uri.startswith(SHOWN)]:
        files.remove(file)
    ORIGINS.clear()
    ORIGINS.update({f.src_uri: f"docs/{f.src_uri}" for f in files} | MOVED)
    texts = {page: markdown_of(ROOT / origin) for page, origin in ORIGINS.items() if page.endswith(".md")}
    made = {page: text for page, text in texts.items() if page in MOVED}
    made |= format_pages() | {"formats/index.md": format_index(), "api.md": api()}
    ORIGINS.update({page: source_of(page) for page in format_pages()})
    for page, text in texts.items():
        for _, target, _ in LINK.findall(LISTING.sub("", text)):
            origin = target_of(target, ORIGINS[page])
            if target and origin not in ORIGINS.values():
                ORIGINS[f"source/{origin}.md"] = origin
                made[f"source/{origin}.md"] = shown(origin)
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links lead to pages, and the Markdown is what this reader of it takes for the same."""
    here = page.file.src_uri
    if here.startswith("source/"):
        return markdown
    pages = {origin: page for page, origin in ORIGINS.items()}
    parts = LISTING.split(markdown)
    if here in ORIGINS and not here.startswith("formats/"):
        parts[::3] = [LINK.sub(lambda m: link(m, here, pages), part) for part in parts[::3]]
    # What belongs to an item "1. " may stand three columns deep in the repository; here it must be four.
    parts[::3] = [re.sub(r"^   (?=\S)", "    ", part, flags=re.MULTILINE) for part in parts[::3]]
    # Two brackets side by side are no link.
    parts[::3] = [re.sub(r"(`[^`\n]*`)|\]\[", lambda m: m[1] or r"]\[", part) for part in parts[::3]]
    return "".join(part for i, part in enumerate(parts) if i % 3 != 2)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The theme gives its search no name, by which it could be announced."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def target_of(target: str, origin: str) -> str:
    """The path in the repository that a link of a file there leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def link(match: re.Match[str], here: str, pages: dict[str, str]) -> str:
    """A link of the repository as one of the site."""
    before, target, after = match.groups()
    if not target:
        return match[0]
    page = pages[target_of(target, ORIGINS[here])]
    if page.startswith("formats/") and after == ")":
        after = "#source)"
    return before + posixpath.relpath(page, posixpath.dirname(here)) + after


def markdown_of(path: Path) -> str:
    """A Markdown file or a notebook as Markdown."""
    if path.suffix != ".ipynb":
        return path.read_text()
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        shown = ["".join(output.get("text") or output["data"]["text/plain"]) for output in cell.get("outputs", [])]
        parts += [f"```text\n{text.rstrip()}\n```" for text in shown]
    return "\n\n".join(parts) + "\n"


def shown(origin: str) -> str:
    """The page of a file, or of a folder."""
    path = ROOT / origin
    if path.is_dir():
        names = "".join(f"- `{child.name}`\n" for child in sorted(path.iterdir()) if child.name != "__pycache__")
        return f"{UNSEARCHED}# {origin}/\n\nA folder of the repository:\n\n{names}"
    if not path.exists():
        raise PluginError(f"{origin} is linked to and is not there")
    text = path.read_text()
    cut = f"\n\nIts first {LONGEST:,} of {len(text):,} characters." if len(text) > LONGEST else ""
    return f"{UNSEARCHED}# {origin}{cut}\n\n{fenced(text[:LONGEST], LANGUAGES.get(path.suffix, 'text'))}\n"


def fenced(text: str, language: str) -> str:
    """A listing, whatever is in it."""
    return f"~~~~~{language}\n{text.rstrip()}\n~~~~~"


# FORMATS AND FUNCTIONS


@functools.cache
def format_pages() -> dict[str, str]:
    """Of every format its page: what explain says of it, then its source."""
    from hifi_ref.explain.page import markdown
    from hifi_ref.formats import FORMATS

    made = {}
    for name in FORMATS:
        page = f"formats/{name.lower()}.md"
        source = fenced((ROOT / source_of(page)).read_text(), "python")
        head = f"## Source {{data-search-exclude}}\n\n`{source_of(page)}`"
        made[page] = f"# {name}\n\n{markdown(name)}\n{head}\n\n{source}\n"
    return made


def source_of(page: str) -> str:
    """The file that defines a format, of its page."""
    name = posixpath.basename(page).removesuffix(".md") + ".py"
    places = [f"hifi_ref/formats/{folder}{name}" for folder in ("", "hifi/")]
    return next(place for place in places if (ROOT / place).exists())


def format_index() -> str:
    """All formats, a line each."""
    from hifi_ref.formats import FORMATS, LLAMA_CPP

    lines = [
        "# Formats",
        "",
        "Each on a page of its own: its bytes drawn, a block taken apart, what implementations do wrong, and the "
        "source that defines it. [Families](../families.md) compares them.",
    ]
    for title, names in (
        ("llama.cpp's", list(LLAMA_CPP)),
        ("Of the HIFI fork", [n for n in FORMATS if n not in LLAMA_CPP]),
    ):
        lines += ["", f"## {title}", "", "| format | weights | bytes | bits per weight |", "|---|---|---|---|"]
        for name in names:
            f = FORMATS[name]
            sizes = f"{f.block_size} | {f.type_size} | {f.layout.bits_per_weight:.6g}"
            lines.append(f"| [{name}]({name.lower()}.md) | {sizes} |")
    return "\n".join(lines) + "\n"


def api() -> str:
    """The public functions, from their docstrings."""
    members = "    options:\n      members: true\n"
    return "# Functions\n\n" + "\n".join(f"::: hifi_ref.{name}\n{members * name[0].isupper()}" for name in API)
