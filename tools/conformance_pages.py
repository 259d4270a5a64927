"""What tools/conformance.py writes: docs/conformance.md, a table of who was judged, and a page behind each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hifi_ref.conform.report import NOT, Report, Subject
from hifi_ref.conform.report_markdown import deviations, matrix_lines
from hifi_ref.model_files.files import write_atomically

TABLE, PAGES = Path("conformance.md"), Path("conformance")


class Page(NamedTuple):
    """One row of the table and the page behind it: a subject, or parts of one folder of which the same is so.

    file: the page's name, without .md. libraries, cells, deviations: lines of Markdown. offered, conforming: cells.
    """

    file: str
    title: str
    about: str
    target: str
    libraries: tuple[str, ...]
    cells: tuple[str, ...]
    deviations: tuple[str, ...]
    offered: int
    conforming: int


class Missing(NamedTuple):
    """Who was to be judged, and why that was not possible."""

    title: str
    why: str


def pages_of(file: str, title: str, about: str, report: Report | str) -> list[Page | Missing]:
    """The pages of one report, in its order; of the reason, where there is no report.

    Parts that differ in nothing but their libraries share a page, which carries the first one's name and commands.
    """
    if isinstance(report, str):
        return [Missing(title, report)]
    alike: dict[str, list[tuple[str, Subject]]] = {}
    for subject in report.subjects:
        name = subject.target.rpartition("#")[2] if len(report.subjects) > 1 else ""
        same = "\n".join([str(subject.fault), *matrix_lines(subject), *deviations(subject)])
        alike.setdefault(same.replace(f"#{name}", "#") if name else same, []).append((name, subject))
    found: list[Page | Missing] = []
    for group in alike.values():
        names = [name for name, _ in group if name]
        whole = f"{title}: {', '.join(names)}" if names else title
        if group[0][1].fault is not None:
            found.append(Missing(whole, group[0][1].fault))
        else:
            found.append(_page("-".join([file, *names[:1]]), whole, about, [subject for _, subject in group]))
    found += [Missing(f"{title}: {target.rpartition('#')[2]}", why) for target, why in report.not_judged.items()]
    return found


def _page(file: str, title: str, about: str, subjects: Sequence[Subject]) -> Page:
    first = subjects[0]
    libraries = [f"`{library['file']}` sha256 `{library['sha256']}`" for s in subjects for library in s.libraries]
    good = sum(cell.verdict != NOT for cell in first.offered)
    lines = tuple(dict.fromkeys(libraries)), tuple(matrix_lines(first)), tuple(deviations(first))
    return Page(file, title, about, first.target, *lines, len(first.offered), good)


def page_text(page: Page) -> str:
    """One page: who that is, the verdict, its libraries, its cells, and what does not conform."""
    verdict = "Conforms" if page.conforming == page.offered else "Does not conform"
    lines = [f"# {page.title}", "", page.about, "", f"**{verdict}**: {page.conforming} of {page.offered} cells do."]
    lines += ["", f"Target: `{page.target}`", *(["", *(f"- {line}" for line in page.libraries)] * bool(page.libraries))]
    lines += ["", "[All that were judged](../conformance.md), and [why they deviate](../deviations.md)."]
    lines += ["", "## Cells", "", *page.cells]
    if page.deviations:
        lines += ["", "## What does not conform", *page.deviations]
    return "\n".join(lines) + "\n"


def table_text(heading: str, found: Sequence[Page | Missing], not_judged: Sequence[Missing]) -> str:
    """The document: its heading, a row for each page, and who was not judged."""
    lines = [heading, "", "| judged | cells | conform | do not |", "|---|---|---|---|"]
    pages = [page for page in found if isinstance(page, Page)]
    for page in pages:
        link, bad = f"[{page.title}]({PAGES}/{page.file}.md)", page.offered - page.conforming
        lines.append(f"| {link} | {page.offered} | {page.conforming} | {bad} |")
    missing = [one for one in found if isinstance(one, Missing)] + [*not_judged]
    lines += ["", "## Not judged", "", *(f"- {one.title}: {one.why}" for one in missing)] if missing else []
    return "\n".join(lines) + "\n"


def write(docs: Path, heading: str, found: Sequence[Page | Missing], not_judged: Sequence[Missing]) -> None:
    """Write the table and all pages into the folder ``docs``, and remove pages that no row leads to."""
    pages = [page for page in found if isinstance(page, Page)]
    (docs / PAGES).mkdir(parents=True, exist_ok=True)
    for page in pages:
        write_atomically(docs / PAGES / f"{page.file}.md", page_text(page))
    write_atomically(docs / TABLE, table_text(heading, found, not_judged))
    for old in (docs / PAGES).glob("*.md"):
        if old.stem not in {page.file for page in pages}:
            old.unlink()
