"""What a terminal sees: tables, colour and progress; and that a pipe sees neither colour nor progress."""

from __future__ import annotations

import io
import sys

import pytest
from rich.text import Text

from hifi_ref.commands import terminal

ROWS = [("name", "n", "state"), ("a" * 300, "7", Text("bad", "red")), ("名前", "1234", "-"), ("[b]:smile:", "", "")]


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(colour: bool) -> list[str]:
    text = terminal.rendered([terminal.table(ROWS, right=(1,)), "", Text("x" * 200000, "green")], colour)
    assert text.endswith("\n")
    return text[:-1].split("\n")


def test_a_table_is_aligned_and_nothing_is_broken_or_cut() -> None:
    assert lines(colour=False) == [
        f"name{' ' * 296}     n  state",
        f"{'a' * 300}     7  bad",
        f"名前{' ' * 296}  1234  -",
        "[b]:smile:",
        "",
        "x" * 200000,
    ]


def test_colour_changes_no_character() -> None:
    coloured = "\n".join(lines(colour=True))
    assert "\x1b[31mbad" in coloured and "\x1b[32mxxx" in coloured and "\x1b" not in "".join(lines(colour=False))
    assert [line.rstrip() for line in Text.from_ansi(coloured).plain.split("\n")] == lines(colour=False)


def test_only_a_terminal_has_colour_and_nobody_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not terminal.has_colour()
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert terminal.has_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.has_colour()
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.has_colour()


def test_progress_is_seen_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(stream: io.StringIO, least: int = 0) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.progress(2_500_000, "weights", "encoding", least) as advance:
            advance(2_500_000)
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(io.StringIO()) == "" and shown(Terminal(), least=3_000_000) == ""
    text = Text.from_ansi(shown(Terminal())).plain
    assert "encoding" in text and "2.5 of 2.5 M weights" in text


def test_what_is_worked_on_stands_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the bar gets, and the estimate is made of what was done, so that at first there is none."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "64")
    name, stream = "a" * 63, Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal.progress(100, "weights", "encoding again") as advance:
        advance(0, name)
    text = Text.from_ansi(stream.getvalue()).plain
    assert name in text and "-:--:--" in text
