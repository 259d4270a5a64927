"""Is this GGUF file sound, and is it what its source gives? `python -m hifi_ref.check FILE` looks at every block."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from absl import flags

from hifi_ref.check import batch
from hifi_ref.check import verify as verification
from hifi_ref.check.arguments import BARE, CODES_TEXT, USAGE, check_flags, flag_values
from hifi_ref.check.attestation import read_statement, stated_flags, to_statement
from hifi_ref.check.batch import Refused
from hifi_ref.check.ignoring import ignoring
from hifi_ref.check.look import check_file, check_model
from hifi_ref.check.report import Report, to_text
from hifi_ref.check.report_json import SCHEMA, to_json
from hifi_ref.check.verify import verify
from hifi_ref.commands import cluster, command_line, terminal
from hifi_ref.commands.command_line import FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import columns, help_text
from hifi_ref.loading.report import NO_MODEL
from hifi_ref.model_files import remote
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.finding_codes import CODES, SEVERITIES, code_table
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, printable
from hifi_ref.model_files.models import ModelFiles, models_of

if TYPE_CHECKING:
    from hifi_ref.check.compare import Elsewhere

__all__ = ["FILE_TYPES", "SCHEMA", "TENSOR_TYPES", "Report", "check_file", "main", "to_json", "to_text"]

# From this size on a terminal sees a progress bar.
LONG_FILE = 256 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("check", _run, argv)


def _run(arguments: list[str]) -> int:
    values = flag_values()
    rest = command_line.parse(values, arguments, bare=BARE)
    if values.help:
        dialects = "\n".join(columns([(name, dialect.says) for name, dialect in DIALECTS.items()]))
        more = f"dialects:\n{dialects}\n{CODES_TEXT}{code_table()}"
        command_line.show(help_text(USAGE, values, BARE, more))
        return FINE
    if not rest:
        raise UsageError("a FILE is needed, none is given")
    models = models_of(rest)
    check_flags(values, len(models))
    html = values.html if len(models) == 1 or values.html is None else _folder(values.html)
    read = [*(path for files in models for path in files.paths), values.source, values.imatrix, values.verify]
    command_line.check_writable((values.json, html, values.attest, values.resume), read)
    if values.verify is not None:
        return _run_verify(models, values)
    if len(models) == 1:
        return _run_one(models[0], values)
    return _run_several(models, values)


@contextmanager
def _nodes(values: flags.FlagValues) -> Iterator[Elsewhere | None]:
    """Of the cluster that --ray names."""
    if values.ray is None:
        yield None
        return
    from hifi_ref.check.on_ray import Nodes

    with cluster.connected(values.ray) as ray:
        yield Nodes(ray)


def _run_one(files: ModelFiles, values: flags.FlagValues) -> int:
    report = _checked(files, values)
    if values.source is not None:
        with _nodes(values) as elsewhere:
            _compare(report, values, elsewhere)
    statement = functools.partial(to_statement, report, stated_flags(values))
    command_line.deliver(
        (
            (values.json, lambda: command_line.json_text(to_json(report))),
            (values.html, lambda: _to_html(report)),
            (values.attest, lambda: command_line.json_text(statement())),
        ),
        lambda: to_text(report, values.quiet, terminal.has_colour(), values.attest),
    )
    return _exit_code(report, values)


def _run_verify(models: Sequence[ModelFiles], values: flags.FlagValues) -> int:
    """Hold all files that were named against a statement."""
    paths = [path for files in models for path in files.paths]
    with _reading(values.verify):
        statement = read_statement(values.verify)
    with _reading(paths[0]), terminal.progress(_size(paths), "bytes", "hashing", LONG_FILE) as advance:
        found = verify(values.verify, statement, paths, [name for files in models for name in files.missing], advance)
    command_line.deliver(
        ((values.json, lambda: command_line.json_text(verification.to_json(found))),),
        lambda: verification.to_text(found),
    )
    return FOUND if found.differences else FINE


def _run_several(models: Sequence[ModelFiles], values: flags.FlagValues) -> int:
    with _nodes(values) as elsewhere:
        reports = [_report(files, values, elsewhere, i) for i, files in enumerate(models)]
    if values.html is not None:
        pages = [report for report in reports if isinstance(report, Report)]
        names = [os.path.join(values.html, name) for name in batch.page_names([page.path for page in pages])]
        made = [functools.partial(_to_html, page) for page in pages]
        command_line.deliver(zip(names, made, strict=True), str)
    command_line.deliver(
        ((values.json, lambda: command_line.json_text(batch.to_json(reports))),),
        lambda: batch.to_text(reports, terminal.has_colour()),
    )
    return max(USAGE_ERROR if isinstance(report, Refused) else _exit_code(report, values) for report in reports)


def _report(files: ModelFiles, values: flags.FlagValues, elsewhere: Elsewhere | None, i: int) -> Report | Refused:
    """On model number ``i`` of several."""
    try:
        report = _checked(files, values)
        # An importance matrix, say, that lies beside the models has no such source.
        if values.source is not None and report.loading.kind != NO_MODEL:
            _compare(report, values, elsewhere, i)
        return report
    except InputError as error:
        return Refused(files.paths[0], str(error))


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


def _folder(path: str) -> str:
    """Make the folder for a page of each model; a path in it. Raises InputError."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        message = f"cannot write {printable(path)}: {error.strerror} (of several models it is a folder of pages)"
        raise InputError(message) from None
    return os.path.join(path, "index.html")


def _to_html(report: Report) -> str:
    from hifi_ref.check.report_html import to_html

    return to_html(report)


def _checked(files: ModelFiles, values: flags.FlagValues) -> Report:
    """Look at a model, with a progress bar on a terminal. Raises InputError where a file cannot be read."""
    findings = Findings(ignores=ignoring(values.ignore))
    hashed = _hashed(values)
    with _reading(files.paths[0]), terminal.progress(_size(files.paths), "bytes", "checking", LONG_FILE) as advance:
        payload = not values["structure-only"].value
        return check_model(files, advance, values.dialect, findings, hashed, payload)


def _hashed(values: flags.FlagValues) -> bool:
    """Whether a report is asked for that carries hashes: they take their time."""
    return any(path is not None for path in (values.attest, values.json, values.html))


def _size(paths: Sequence[str]) -> int:
    """Of all files that are there, those at addresses among them."""
    here = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    return here + sum(remote.about(path)[0] for path in paths if remote.is_remote(path))


def _compare(report: Report, values: flags.FlagValues, elsewhere: Elsewhere | None, i: int = 0) -> None:
    """Add the comparison with the source to the report, of model number ``i``, with a progress bar on a terminal."""
    from hifi_ref.check.compare import compare
    from hifi_ref.check.comparison import Options

    state = values.resume
    written = [path for path in (values.html, values.json) if path not in (None, "-")]
    if state == "-" or state is None and written:
        beside = name_of(report.path) if remote.is_remote(report.path) else report.path
        state = f"{[*written, beside][0]}{f'.{i}' if i else ''}.state"
    resumed = values.resume is not None
    options = Options(
        values.source,
        values.imatrix,
        values.tensors,
        values.sample,
        values.seed,
        state,
        resumed,
        _hashed(values),
        values.profile,
    )
    with _reading(report.path), ExitStack() as bars:

        def start(title: str, unit: str, total: int) -> Callable[[int, str], object]:
            bars.close()
            return bars.enter_context(terminal.progress(total, unit, title))

        bars_of = functools.partial(start, "encoding again", "weights"), functools.partial(start, "fetching", "bytes")
        files = {part.path: part.gguf for part in report.parts}
        report.comparison = compare(files, report.gguf, options, report.findings, *bars_of, elsewhere)
