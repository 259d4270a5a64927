"""What a format is, down to each bit, by its definition and by real runs: `python -m hifi_ref.explain FORMAT`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from absl import flags

from hifi_ref.commands import command_line
from hifi_ref.commands.command_line import FAULT, FINE, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.explain import page
from hifi_ref.explain.explained import explanation
from hifi_ref.explain.parts import Part, to_text
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable

USAGE = Usage(
    "explain",
    "FORMAT | FILE.gguf TENSOR[:BLOCK] [flags]",
    "explain a format, a tensor of a file, or a block of it, down to each bit",
    "Explains a block format: which bit of which byte belongs to which weight, where its bits go, a block taken apart "
    "step by step, what each bit does, how its search goes, and which mistakes implementations make. Or a tensor of a "
    "GGUF file: its weights, steps and codes; or a block of it, taken apart in the same way.",
    {FINE: "explained", USAGE_ERROR: "wrong usage, or nothing of that name", FAULT: "a fault of this program"},
)
# Flags that may stand without a value, and those that only make sense with a file.
BARE = ("--json",)
OF_A_FILE = ("source", "imatrix", "compare")


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
    source = "PATH: the weights it was made from, a GGUF, a safetensors file or a folder: adds errors and the reference"
    flags.DEFINE_string("source", None, source, flag_values=values)
    imatrix = "FILE: the importance matrix it was quantized with, for the reference's blocks"
    flags.DEFINE_string("imatrix", None, imatrix, flag_values=values)
    compare = "FILE: another quantization of the same model, to show beside"
    flags.DEFINE_string("compare", None, compare, flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = flag_values()
    rest = command_line.parse(values, arguments, bare=BARE)
    if values.help:
        command_line.show(help_text(USAGE, values, BARE, f"formats:\n  {' '.join(FORMATS)}"))
        return FINE
    if not 1 <= len(rest) <= 2:
        raise UsageError(f"a FORMAT, or a FILE and a TENSOR, are needed, {len(rest) or 'none'} are given")
    command_line.check_writable((values.json, values.html))
    return _explain(values, *(_of_format(values, *rest) if len(rest) == 1 else _of_file(values, *rest)))


def _explain(values: flags.FlagValues, title: str, explained: dict[str, Any], parts: Sequence[Part]) -> int:
    command_line.deliver(
        (
            (values.json, lambda: command_line.json_text(explained)),
            (values.html, lambda: _html(title, parts)),
        ),
        lambda: to_text(parts, values.all),
    )
    return FINE


def _of_format(values: flags.FlagValues, text: str) -> tuple[str, dict[str, Any], Sequence[Part]]:
    for name in OF_A_FILE:
        if values[name].value is not None:
            raise UsageError(f"--{name} needs a FILE and a TENSOR")
    if text.endswith(".gguf"):
        raise UsageError(f"of the file {printable(text)} a TENSOR is needed")
    name = format_of(text)
    explained = explanation(name)
    return name, explained, page.parts_of(explained)


def _of_file(values: flags.FlagValues, path: str, text: str) -> tuple[str, dict[str, Any], Sequence[Part]]:
    from hifi_ref.explain.files import page as file_page
    from hifi_ref.explain.files.report import of_tensor

    if values.imatrix is not None and values.source is None:
        raise UsageError("--imatrix needs a --source to encode with it")
    try:
        found = of_tensor(path, text, values.source, values.imatrix, values.compare)
    except OSError as error:
        message = f"cannot read {printable(str(error.filename or path))}: {error.strerror or error}"
        raise InputError(message) from None
    return f"{found['tensor']} of {found['file']}", found, file_page.tensor_parts(found)


def format_of(text: str) -> str:
    """The format that is meant. Raises UsageError, which names near ones."""
    name = text.upper()
    if name in FORMATS:
        return name
    mixtures = dict(FILE_TYPES.values())
    if name in mixtures:
        raise UsageError(f"{name} is a mixture of formats, named after {mixtures[name]}: explain {mixtures[name]}")
    near = get_close_matches(name, FORMATS, n=3, cutoff=0.5)
    hint = f"; near it are {', '.join(near)}" if near else ""
    raise UsageError(f"no format is called {text!r}{hint}")


def _html(title: str, parts: Sequence[Part]) -> str:
    from hifi_ref.explain.html_page import page as html_page

    return html_page(title, parts)
