"""Is this GGUF file sound, and is it what its source gives? `python -m hifi_ref.check FILE` looks at every block."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from absl import flags

from hifi_ref.check import batch
from hifi_ref.check.batch import Refused
from hifi_ref.check.ignoring import ignoring
from hifi_ref.check.look import check_file, check_model
from hifi_ref.check.models import ModelFiles, models_of
from hifi_ref.check.report import Report, to_text
from hifi_ref.check.report_json import SCHEMA, to_json
from hifi_ref.commands import command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, columns, help_text
from hifi_ref.loading.report import NO_MODEL
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.finding_codes import CODES, SEVERITIES, code_table
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, printable

__all__ = ["FILE_TYPES", "SCHEMA", "TENSOR_TYPES", "Report", "check_file", "main", "to_json", "to_text"]

# From this size on a terminal sees a progress bar.
LONG_FILE = 256 << 20

USAGE = Usage(
    "check",
    "FILE.gguf ... [flags]",
    "look at a GGUF file's structure and at every block of its tensors, and compare them with their source",
    "Looks at a GGUF file's structure and at every block of its tensors, and tells what is wrong with it. With "
    "--source it also encodes the source's weights again, and tells which blocks are not what the reference encoder "
    "writes. FILE may be any shard of a model, which is checked whole, or stand for several models: a folder, or "
    "a glob in quotes.",
    {
        FINE: "sound (and reproduced)",
        FOUND: "findings, of the severity of --fail-on",
        USAGE_ERROR: "wrong usage or a file that cannot be read",
        FAULT: "a fault of this program",
    },
)
# Flags that may stand without a value.
BARE = ("--json", "--resume")
CODES_TEXT = """
finding codes (an error means a broken file, one that llama.cpp does not load, or another than its source gives; a
warning one that no reference tool writes, or that the reference writes otherwise; both exit with 1; a note with 0):
"""


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
    fail_on = "SEVERITY: exit with 1 from findings of this severity on: error, warning (the default) or note"
    flags.DEFINE_enum("fail-on", "warning", list(SEVERITIES), fail_on, flag_values=values)
    ignore = "CODE[:REGEX]: pass over findings of this code, or letter, about tensors that match"
    flags.DEFINE_multi_string("ignore", [], ignore, flag_values=values)
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
    if not rest:
        raise UsageError("a FILE is needed, none is given")
    models = models_of(rest)
    _check_flags(values, len(models))
    command_line.check_writable((values.json, values.html, values.resume))
    if len(models) == 1:
        return _run_one(models[0], values)
    return _run_several(models, values)


def _run_one(files: ModelFiles, values: flags.FlagValues) -> int:
    report = _checked(files, values)
    if values.source is not None:
        _compare(report, values)
    command_line.deliver(
        ((values.json, lambda: command_line.json_text(to_json(report))), (values.html, lambda: _to_html(report))),
        lambda: to_text(report, values.quiet, terminal.has_colour()),
    )
    return _exit_code(report, values)


def _run_several(models: Sequence[ModelFiles], values: flags.FlagValues) -> int:
    reports: list[Report | Refused] = []
    for i, files in enumerate(models):
        try:
            report = _checked(files, values)
            # An importance matrix, say, that lies beside the models has no such source.
            if values.source is not None and report.loading.kind != NO_MODEL:
                _compare(report, values, i)
            reports.append(report)
        except InputError as error:
            reports.append(Refused(files.paths[0], str(error)))
    command_line.deliver(
        ((values.json, lambda: command_line.json_text(batch.to_json(reports))),),
        lambda: batch.to_text(reports, terminal.has_colour()),
    )
    return max(USAGE_ERROR if isinstance(report, Refused) else _exit_code(report, values) for report in reports)


def _exit_code(report: Report, values: flags.FlagValues) -> int:
    failing = SEVERITIES[: SEVERITIES.index(values["fail-on"].value) + 1]
    return FOUND if any(CODES[code].severity in failing for code in report.findings.counts) else FINE


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """What the system refuses, as InputError; ``path`` is meant where it names no file."""
    try:
        yield
    except OSError as error:
        message = f"cannot read {printable(str(error.filename or path))}: {error.strerror or error}"
        raise InputError(message) from None


def _check_flags(values: flags.FlagValues, models: int) -> None:
    """Raises UsageError where the flags make no sense together."""
    if values.source is None:
        for name in ("imatrix", "tensors", "sample", "resume"):
            if values[name].value is not None:
                raise UsageError(f"--{name} needs a --source to compare with")
    ignoring(values.ignore)
    if models > 1 and values.html is not None:
        raise UsageError(f"--html makes a page of one model, and {models} are given")
    if models > 1 and values.resume not in (None, "-"):
        raise UsageError(f"--resume=FILE keeps the results of one model, and {models} are given")
    if values.tensors is not None:
        try:
            re.compile(values.tensors)
        except re.error as error:
            message = f"--tensors={printable(values.tensors)} is no regular expression: {error}"
            raise UsageError(message) from None


def _to_html(report: Report) -> str:
    from hifi_ref.check.report_html import to_html

    return to_html(report)


def _checked(files: ModelFiles, values: flags.FlagValues) -> Report:
    """Look at a model, with a progress bar on a terminal. Raises InputError where a file cannot be read."""
    size = sum(os.path.getsize(path) for path in files.paths if os.path.isfile(path))
    with _reading(files.paths[0]), terminal.progress(size, "bytes", "checking", LONG_FILE) as advance:
        return check_model(files, advance, values.dialect, Findings(ignores=ignoring(values.ignore)))


def _compare(report: Report, values: flags.FlagValues, i: int = 0) -> None:
    """Add the comparison with the source to the report, of model number ``i``, with a progress bar on a terminal."""
    from hifi_ref.check.compare import compare
    from hifi_ref.check.comparison import Options

    state = values.resume
    written = [path for path in (values.html, values.json) if path not in (None, "-")]
    if state == "-" or state is None and written:
        state = f"{[*written, report.path][0]}{f'.{i}' if i else ''}.state"
    resumed = values.resume is not None
    options = Options(values.source, values.imatrix, values.tensors, values.sample, values.seed, state, resumed)
    with _reading(report.path), ExitStack() as bars:

        def start_progress(weights: int, seconds: float) -> Callable[[int], object]:
            title = f"encoding again, about {max(1, seconds):.0f} s"
            return bars.enter_context(terminal.progress(weights, "weights", title))

        files = {part.path: part.gguf for part in report.parts}
        report.comparison = compare(files, report.gguf, options, report.findings, start_progress)
