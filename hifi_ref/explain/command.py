"""What a format is, down to each bit, by its definition and by real runs: `python -m hifi_ref.explain FORMAT`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from absl import flags

from hifi_ref.commands import command_line
from hifi_ref.commands.command_line import FAULT, FINE, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.explain import page
from hifi_ref.explain.explained import explanation
from hifi_ref.explain.parts import to_text
from hifi_ref.formats import FORMATS

USAGE = Usage(
    "explain",
    "FORMAT [flags]",
    "explain a format: its bytes and bits, a block by hand, its search, its history, and what ports do wrong",
    "Explains a block format: which bit of which byte belongs to which weight, where its bits go, a block taken apart "
    "step by step, what each bit does, and which mistakes implementations make.",
    {FINE: "explained", USAGE_ERROR: "wrong usage, or no such format", FAULT: "a fault of this program"},
)
# Flags that may stand without a value.
BARE = ("--json",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("explain", _run, argv)


def flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all()
    flags.DEFINE_boolean("all", False, "open what is folded: solutions, all weights, bit by bit", flag_values=values)
    json = "FILE: write what is explained as JSON, to FILE or in place of the text"
    flags.DEFINE_string("json", None, json, flag_values=values)
    html = "FILE: write it as one page for a browser, with pictures"
    flags.DEFINE_string("html", None, html, flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = flag_values()
    rest = command_line.parse(values, arguments, bare=BARE)
    if values.help:
        command_line.show(help_text(USAGE, values, BARE, f"formats:\n  {' '.join(FORMATS)}"))
        return FINE
    if len(rest) != 1:
        raise UsageError(f"one FORMAT is needed, {len(rest) or 'none'} {'are' if len(rest) > 1 else 'is'} given")
    name = format_of(rest[0])
    command_line.check_writable((values.json, values.html))
    explained = explanation(name)
    command_line.deliver(
        (
            (values.json, lambda: command_line.json_text(explained)),
            (values.html, lambda: _html(name, page.parts_of(explained))),
        ),
        lambda: to_text(page.parts_of(explained), values.all),
    )
    return FINE


def format_of(text: str) -> str:
    """The format that is meant. Raises UsageError, which names near ones."""
    name = text.upper()
    if name in FORMATS:
        return name
    near = get_close_matches(name, FORMATS, n=3, cutoff=0.5)
    hint = f"; near it are {', '.join(near)}" if near else ""
    raise UsageError(f"no format is called {text!r}{hint}")


def _html(name: str, parts: list) -> str:
    from hifi_ref.explain.html_page import page as html_page

    return html_page(name, parts)
