"""What a command shows on a terminal: tables, colour and progress, by rich. A pipe gets the same lines without colour.

Nothing is broken or cut to the terminal's width: names and numbers are there to be copied and searched.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich import filesize
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

# Columns that no table reaches: names of tensors are short.
WIDE = 1 << 16


def has_colour() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def table(rows: Sequence[Sequence[str | Text]], right: Collection[int] = ()) -> Table:
    """Rows under a head, the first of them; the columns whose numbers are in ``right`` are aligned right."""
    head, *others = rows
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        made.add_column(name, justify="right" if i in right else "left", no_wrap=True)
    for row in others:
        made.add_row(*row)
    return made


def rendered(parts: Iterable[RenderableType], colour: bool) -> str:
    """Lines, styled lines and tables as text, each line with its end."""
    out = io.StringIO()
    console = Console(
        file=out, width=WIDE, force_terminal=colour, color_system="standard" if colour else None, no_color=not colour,
        markup=False, highlight=False, emoji=False, legacy_windows=False, force_jupyter=False,
    )  # fmt: skip
    for part in parts:
        console.print(part, crop=False, soft_wrap=not isinstance(part, Table))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().split("\n")[:-1])


class _Done(ProgressColumn):
    """How much is done, with its unit."""

    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        size, prefix = filesize.pick_unit_and_suffix(total, ["", "k", "M", "G", "T"], 1000)
        digits, unit = (1, f"{prefix} {task.fields['unit']}") if prefix else (0, task.fields["unit"])
        return Text(f"{task.completed / size:.{digits}f} of {total / size:.{digits}f} {unit}")


class _Rate(ProgressColumn):
    """How much is done in a second."""

    def render(self, task: Task) -> Text:
        size, prefix = filesize.pick_unit_and_suffix(int(task.speed or 0), ["", "k", "M", "G", "T"], 1000)
        return Text(f"{(task.speed or 0) / size:.1f} {prefix}/s" if task.speed else "")


class _Bar(Progress):
    """A bar, and below it what is worked on: a line of its own has room for any name of a tensor."""

    name = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.name:
            yield Text(self.name, overflow="ignore", no_wrap=True)


@contextmanager
def progress(total: float, unit: str, title: str = "", least: float = 0) -> Iterator[Callable[..., object]]:
    """A bar on standard error while the block runs; it is called with what is done, and the name of what is worked on.

    The time that remains is estimated from what was done so far. There is no bar where standard error is no terminal,
    or where ``total`` is less than ``least``.
    """
    if not sys.stderr.isatty() or total < least:
        yield lambda done, name="": None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Done(), _Rate(), TimeRemainingColumn())
    with _Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=total, unit=unit)

        def advance(done: float, name: str = "") -> None:
            bar.name = name
            bar.advance(task, done)

        yield advance
