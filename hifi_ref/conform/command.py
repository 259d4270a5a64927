"""The command line of `python -m hifi_ref.conform`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from absl import flags

import hifi_ref
from hifi_ref.commands import command_line, provenance, terminal
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, columns, help_text
from hifi_ref.conform import dump, report_html, report_junit, report_markdown
from hifi_ref.conform.cases import (
    DIALECT,
    OPERATIONS,
    Suite,
    VectorError,
    digest,
    find_case,
    golden_suites,
    no_case,
    vectors_folder,
)
from hifi_ref.conform.deviations import DEVIATIONS, FLAGS
from hifi_ref.conform.judge import Cell, judge
from hifi_ref.conform.line_target import NoAnswerError
from hifi_ref.conform.neighbours.run import files_of, report_of
from hifi_ref.conform.neighbours.vectors import dialects
from hifi_ref.conform.profiles import matches_of, of_profile
from hifi_ref.conform.report import Report, Subject, cell_report
from hifi_ref.conform.report_json import to_json
from hifi_ref.conform.report_text import to_text
from hifi_ref.conform.targets import Opened, TargetError, digests, machine, open_targets
from hifi_ref.conform.xfail import Expectation, XfailError, read_expectations, unexpected_passes
from hifi_ref.formats.builds import STRICT
from hifi_ref.model_files.files import InputError

USAGE = Usage(
    "conform",
    "TARGET [flags], or --dump=ID [flags]",
    "judge an implementation of the formats by the golden vectors",
    "Judges an implementation of the block formats by the golden vectors, and tells what is wrong with it.",
    {
        FINE: "conforms",
        FOUND: "does not",
        USAGE_ERROR: "wrong usage, or no such target",
        FAULT: "a fault of this program",
    },
    (
        ("ggml:DIR[#PART]", "shared libraries with ggml's C symbols: base and each CPU variant that runs here, or one"),
        ("python:MODULE", "a module with any of encode(name, x, weights), decode(name, blocks), dot(name, w, a)"),
        ("gguf-py", "the gguf package"),
        ("exec:COMMAND", "a program that speaks the line protocol on stdin and stdout, in any language"),
    ),
)
# The flags that say what is asked and expected.
ASKED = ("level", "seed", "dialect", "vectors", "profile")
# Flags that may stand without a value.
BARE = ("--json",)
DEVIATIONS_TEXT = """
deviations that shipped implementations have and that do no harm; they are counted, and do not fail the verdict:
"""


@dataclass(frozen=True)
class Run:
    """What is asked of whom, as the flags say it."""

    target: str
    formats: tuple[str, ...] = ()
    operations: tuple[str, ...] = OPERATIONS
    level: int = 1
    seed: int = 0
    only: tuple[str, ...] = ()
    xfail: str | None = None
    dialect: str = DIALECT
    vectors: str | None = None
    timeout: float = 30
    strict: bool = False
    flags: tuple[str, ...] = FLAGS
    profile: str = STRICT
    debug: bool = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The flags of the deviations that are no failures."""
        return () if self.strict else self.flags

    @property
    def repeated(self) -> list[str]:
        """The flags that a command which reproduces one case needs."""
        plain = Run(self.target)
        values = [(name, getattr(self, name), getattr(plain, name)) for name in ASKED]
        accepted = [] if self.accepted == FLAGS else [f"--flags={','.join(self.accepted)}"]
        return [*(f"--{name}={value}" for name, value, usual in values if value != usual), *accepted]


def suites_of(run: Run) -> list[Suite]:
    """The suites that a run asks for. Raises VectorError."""
    for operation in run.operations:
        if operation not in OPERATIONS:
            raise VectorError(f"no operation is called {operation!r}; there are {' '.join(OPERATIONS)}")
    folder = vectors_folder() if run.vectors is None else Path(run.vectors)
    suites = of_profile(list(golden_suites(folder, run.dialect, run.formats, run.operations)), run.profile)
    if run.level == 2:
        from hifi_ref.conform.bulk import with_bulk

        suites = [with_bulk(suite, run.seed) for suite in suites]
    if run.only:
        whole = suites
        suites = [replace(s, cases=tuple(case for case in s.cases if case.id in run.only)) for s in suites]
        missing = set(run.only) - {case.id for suite in suites for case in suite.cases}
        if missing:
            raise VectorError(no_case(whole, sorted(missing)[0]))
    return [suite for suite in suites if suite.cases]


def conform(run: Run) -> Report:
    """Judge a target. Raises TargetError, VectorError, XfailError: wrong usage, in one sentence."""
    for flag in run.flags:
        if flag not in FLAGS:
            raise VectorError(f"no deviation is called {flag!r}; there are {' '.join(FLAGS)}")
    expectations = [] if run.xfail is None else read_expectations(Path(run.xfail))
    folder = vectors_folder() if run.vectors is None else Path(run.vectors)
    if run.profile != STRICT and (run.level == 2 or run.dialect != DIALECT):
        raise VectorError(f"--profile is for the golden vectors of {DIALECT}: without --level=2 and other dialects")
    if run.dialect in dialects(folder):
        if run.level == 2 or run.xfail:
            raise VectorError(f"--level=2 and --xfail are not for the dialect {run.dialect!r}")
        files = files_of(folder, run.dialect, run.formats, run.operations, run.only)
        return report_of(run.target, run.dialect, files, run.timeout, run.debug, run.repeated)
    date, suites = provenance.date(), suites_of(run)
    opened, not_judged = open_targets(run.target, run.timeout, run.debug)
    subjects, judged = [], []
    for one in opened:
        subject, cells = judge_subject(one, suites, run.repeated, expectations, run.accepted)
        subjects.append(subject)
        judged += cells
    return Report(
        hifi_ref.__version__, run.dialect, run.level,
        {"suites": len(suites), "cases": sum(len(suite.cases) for suite in suites), "seed": run.seed,
         "sha256": digest(suites)},
        machine(), tuple(subjects), not_judged, tuple(map(str, unexpected_passes(judged, expectations))), date,
        provenance.versions(), run.profile,
    )  # fmt: skip


def judge_subject(
    one: Opened,
    suites: Sequence[Suite],
    repeated: Sequence[str] = (),
    expectations: Sequence[Expectation] = (),
    accepted: Sequence[str] = FLAGS,
) -> tuple[Subject, list[Cell]]:
    """One subject's report, and the cells that it was made from."""
    try:
        name = one.target.hello()
        with terminal.progress(len(suites), "cells", one.spelling[-40:]) as advance:
            cells = judge(one.target, suites, advance, accepted)
        reports = tuple(cell_report(cell, one.spelling, repeated, expectations, one.target) for cell in cells)
    except NoAnswerError as error:
        return Subject(one.spelling, "", digests(one.libraries), (), str(error)), []
    finally:
        one.target.close()
    return Subject(one.spelling, name, digests(one.libraries), reports, profiles=matches_of(cells)), cells


def dump_case(run: Run, id: str, out: str | None) -> None:
    """Print one case; with ``out`` write it as a file of vectors instead. Raises VectorError, InputError."""
    suite, case = find_case(suites_of(run), id)
    folder = vectors_folder() if run.vectors is None else Path(run.vectors)
    written = (out, lambda: command_line.json_text(dump.to_json(suite, case, run.dialect)))
    shown = "" if out is not None else dump.to_text(suite, case, folder)
    command_line.deliver((written,), lambda: shown)


def _flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all(
        "print tracebacks, of a fault of this program and of an adapter's, and its stderr"
    )
    plain = Run("")
    flags.DEFINE_list("formats", [], "A,B: only these formats", flag_values=values)
    operations = f"A,B: only these of {', '.join(OPERATIONS)}"
    flags.DEFINE_list("operations", list(OPERATIONS), operations, flag_values=values)
    level = "1|2: 1: the golden vectors; 2: bulk and adversarial inputs too, judged by hifi_ref itself"
    flags.DEFINE_integer("level", 1, level, lower_bound=1, upper_bound=2, flag_values=values)
    flags.DEFINE_integer("seed", 0, "N: draws other bulk inputs", lower_bound=0, flag_values=values)
    flags.DEFINE_list("only", [], "ID,ID: only the cases with these ids", flag_values=values)
    strict = "accept no deviation: whatever differs from the reference fails"
    flags.DEFINE_boolean("strict", False, strict, flag_values=values)
    accepted = "A,B: accept these deviations alone, of those below"
    flags.DEFINE_list("flags", list(FLAGS), accepted, flag_values=values)
    profile = "NAME: expect the blocks of this build: strict, the pinned release, or another of docs/profiles.md"
    flags.DEFINE_string("profile", plain.profile, profile, flag_values=values)
    xfail = "FILE: expected failures: lines FORMAT.OPERATION [ID or DEVIATION]: REASON"
    flags.DEFINE_string("xfail", None, xfail, flag_values=values)
    dialect = f"NAME: the vectors' dialect, {plain.dialect} by default"
    flags.DEFINE_string("dialect", plain.dialect, dialect, flag_values=values)
    vectors = "DIR: the folder of the vectors, in place of those that came with hifi_ref"
    flags.DEFINE_string("vectors", None, vectors, flag_values=values)
    timeout = f"SECONDS: how long an answer may take, {plain.timeout:g} by default"
    flags.DEFINE_float("timeout", plain.timeout, timeout, lower_bound=0.01, flag_values=values)
    json = "FILE: write the report as JSON, to FILE or in place of the text"
    flags.DEFINE_string("json", None, json, flag_values=values)
    for kind, form in (("junit", "JUnit XML"), ("html", "one page for a browser"), ("markdown", "Markdown")):
        flags.DEFINE_string(kind, None, f"FILE: write it as {form}", flag_values=values)
    whole = "ID: print the case with this id whole, and ask nobody: what is given and expected, value by value"
    flags.DEFINE_string("dump", None, whole, flag_values=values)
    flags.DEFINE_string("out", None, "FILE: with --dump, write that case as a file of vectors", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "print the failures and the verdict, without the matrix", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("conform", _run, argv, (InputError, TargetError, VectorError, XfailError))


def _run(arguments: list[str]) -> int:
    values = _flag_values()
    rest = command_line.parse(values, arguments, bare=BARE)
    if values.help:
        deviations = "\n".join(columns([(deviation.flag, deviation.says) for deviation in DEVIATIONS]))
        command_line.show(help_text(USAGE, values, BARE, f"{DEVIATIONS_TEXT}{deviations}"))
        return FINE
    if values.out is not None and values.dump is None:
        raise UsageError("--out goes with --dump")
    if len(rest) != (values.dump is None):
        wanted = "one TARGET is" if values.dump is None else "--dump asks nobody: no TARGET is"
        raise UsageError(f"{wanted} needed, {len(rest)} are given")
    run = Run(
        "".join(rest), tuple(values.formats), tuple(values.operations), values.level, values.seed, tuple(values.only),
        values.xfail, values.dialect, values.vectors, values.timeout, values.strict, tuple(values["flags"].value or ()),
        values.profile, values.debug,
    )  # fmt: skip
    if values.dump is not None:
        dump_case(run, values.dump, values.out)
        return FINE
    report = conform(run)
    command_line.deliver(
        (
            (values.json, lambda: command_line.json_text(to_json(report))),
            (values.junit, lambda: report_junit.to_junit(report)),
            (values.html, lambda: report_html.to_html(report)),
            (values.markdown, lambda: report_markdown.to_markdown(report)),
        ),
        lambda: to_text(report, values.quiet, terminal.has_colour()),
    )
    return FINE if report.conforms else FOUND
