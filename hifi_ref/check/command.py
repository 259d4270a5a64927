"""Is this GGUF file sound, and is it what its source gives? `python -m hifi_ref.check FILE` looks at every block."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from absl import flags

from hifi_ref.check.damage import Damage
from hifi_ref.check.payload import check_payload
from hifi_ref.check.report import Report, to_text
from hifi_ref.check.report_json import SCHEMA, to_json
from hifi_ref.commands import command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, columns, help_text
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.file_types import FILE_TYPES, check_file_type
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.findings import Findings, code_table
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, map_file, printable, scan

__all__ = ["FILE_TYPES", "SCHEMA", "TENSOR_TYPES", "Report", "check_file", "main", "to_json", "to_text"]

# From this size on a terminal sees a progress bar.
LONG_FILE = 256 << 20

USAGE = Usage(
    "check",
    "FILE.gguf [flags]",
    "look at a GGUF file's structure and at every block of its tensors, and compare them with their source",
    "Looks at a GGUF file's structure and at every block of its tensors, and tells what is wrong with it. With "
    "--source it also encodes the source's weights again, and tells which blocks are not what the reference encoder "
    "writes.",
    {
        FINE: "sound (and reproduced)",
        FOUND: "findings",
        USAGE_ERROR: "wrong usage or a file that cannot be read",
        FAULT: "a fault of this program",
    },
)
# Flags that may stand without a value.
BARE = ("--json", "--resume")
CODES_TEXT = """
finding codes (an error means a broken file, or another than its source gives; a warning one that no reference tool
writes, or that the reference writes otherwise; both exit with 1):
"""


def check_file(
    path: str | os.PathLike[str],
    progress: Callable[[int], object] = lambda nbytes: None,
    dialect: str | None = None,
) -> Report:
    """Check a file. Raises OSError, or GgufError where it is no GGUF; everything else is a finding.

    ``progress`` is called with the number of bytes whenever some are done. ``dialect``, a key of DIALECTS, says what
    the type ids mean; None finds out.
    """
    data = map_file(path)
    findings = Findings()
    gguf = scan(data, findings, dialect)
    check_file_type(gguf, findings)
    damage = Damage(gguf, findings)
    for tensor in gguf.tensors:
        if tensor.readable:
            check_payload(gguf, tensor, findings, progress)
            damage.look(tensor)
    damage.conclude()
    return Report(os.fspath(path), len(data), gguf, findings)


def _flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all()
    source = "PATH: the weights it was made from: a GGUF, a safetensors file, or a folder with safetensors"
    flags.DEFINE_string("source", None, source, flag_values=values)
    imatrix = "FILE: the importance matrix it was quantized with, GGUF or .dat"
    flags.DEFINE_string("imatrix", None, imatrix, flag_values=values)
    flags.DEFINE_string("tensors", None, "REGEX: compare only tensors whose name matches", flag_values=values)
    sample = "N: compare only about N blocks per tensor, drawn with --seed"
    flags.DEFINE_integer("sample", None, sample, lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "N: another draw of the sample, 0 by default", lower_bound=0, flag_values=values)
    resume = "FILE: keep what is done in FILE (default: beside the report or the file), and go on from there"
    flags.DEFINE_string("resume", None, resume, flag_values=values)
    dialect = "NAME: what the type ids mean, where the file leaves it open: one of the dialects below"
    flags.DEFINE_enum("dialect", None, list(DIALECTS), dialect, flag_values=values)
    json = "FILE: write the report as JSON, to FILE or in place of the text"
    flags.DEFINE_string("json", None, json, flag_values=values)
    flags.DEFINE_string("html", None, "FILE: write the report as one page for a browser", flag_values=values)
    quiet = "print the findings and the verdict, without the tables"
    flags.DEFINE_boolean("quiet", False, quiet, flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("check", _run, argv)


def _run(arguments: list[str]) -> int:
    values = _flag_values()
    rest = command_line.parse(values, arguments, bare=BARE)
    if values.help:
        dialects = "\n".join(columns([(name, dialect.says) for name, dialect in DIALECTS.items()]))
        more = f"dialects:\n{dialects}\n{CODES_TEXT}{code_table()}"
        command_line.show(help_text(USAGE, values, BARE, more))
        return FINE
    if len(rest) != 1:
        raise UsageError(f"one FILE is needed, {len(rest)} are given")
    _check_flags(values)
    path = rest[0]
    try:
        report = _check_with_progress(path, values.dialect)
        if values.source is not None:
            _compare(report, values)
    except OSError as error:
        message = f"cannot read {printable(str(error.filename or path))}: {error.strerror or error}"
        raise InputError(message) from None
    command_line.deliver(
        ((values.json, lambda: command_line.json_text(to_json(report))), (values.html, lambda: _to_html(report))),
        lambda: to_text(report, values.quiet, terminal.has_colour()),
    )
    return FOUND if report.findings.counts else FINE


def _check_flags(values: flags.FlagValues) -> None:
    """Raises UsageError where the flags make no sense together."""
    if values.source is None:
        for name in ("imatrix", "tensors", "sample", "resume"):
            if values[name].value is not None:
                raise UsageError(f"--{name} needs a --source to compare with")
    if values.tensors is not None:
        try:
            re.compile(values.tensors)
        except re.error as error:
            message = f"--tensors={printable(values.tensors)} is no regular expression: {error}"
            raise UsageError(message) from None


def _to_html(report: Report) -> str:
    from hifi_ref.check.report_html import to_html

    return to_html(report)


def _check_with_progress(path: str, dialect: str | None) -> Report:
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    with terminal.progress(size, "bytes", "checking", LONG_FILE) as advance:
        return check_file(path, advance, dialect)


def _compare(report: Report, values: flags.FlagValues) -> None:
    """Add the comparison with the source to the report, with a progress bar on a terminal."""
    from hifi_ref.check.compare import compare
    from hifi_ref.check.comparison import Options

    state = values.resume
    written = [path for path in (values.html, values.json) if path not in (None, "-")]
    if state == "-" or state is None and written:
        state = f"{[*written, report.path][0]}.state"
    resumed = values.resume is not None
    options = Options(values.source, values.imatrix, values.tensors, values.sample, values.seed, state, resumed)
    with ExitStack() as bars:

        def start_progress(weights: int, seconds: float) -> Callable[[int], object]:
            title = f"encoding again, about {max(1, seconds):.0f} s"
            return bars.enter_context(terminal.progress(weights, "weights", title))

        report.comparison = compare(report.path, report.gguf, options, report.findings, start_progress)
