"""`pytest --hifi-ref-target=TARGET`: one test item for each format and operation that the target offers.

Without the option this plugin adds nothing to a run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hifi_ref", "conformance of block formats")
    group.addoption("--hifi-ref-target", metavar="TARGET", help="what python -m hifi_ref.conform would judge")
    group.addoption("--hifi-ref-formats", default="", metavar="A,B", help="only these formats")
    group.addoption("--hifi-ref-operations", default="", metavar="A,B", help="only these of decode, encode, dot")
    group.addoption("--hifi-ref-level", type=int, choices=(1, 2), default=1, help="2: bulk inputs too")
    group.addoption("--hifi-ref-strict", action="store_true", help="accept no deviation")
    group.addoption("--hifi-ref-xfail", metavar="FILE", help="expected failures")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--hifi-ref-target"):
        items += _items(session, config)


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    # Other runs do not wait for these.
    from hifi_ref.conform.cases import OPERATIONS, VectorError
    from hifi_ref.conform.command import Run, suites_of
    from hifi_ref.conform.targets import TargetError, open_targets
    from hifi_ref.conform.xfail import XfailError, read_expectations

    def listed(option: str) -> tuple[str, ...]:
        return tuple(word for word in config.getoption(option).split(",") if word)

    run = Run(
        config.getoption("--hifi-ref-target"), formats=listed("--hifi-ref-formats"),
        operations=listed("--hifi-ref-operations") or OPERATIONS, level=config.getoption("--hifi-ref-level"),
        strict=config.getoption("--hifi-ref-strict"),
    )  # fmt: skip
    try:
        suites = suites_of(run)
        opened, _ = open_targets(run.target, run.timeout)
        path = config.getoption("--hifi-ref-xfail")
        expectations = [] if path is None else read_expectations(config.invocation_params.dir / path)
    except (TargetError, VectorError, XfailError) as error:
        raise pytest.UsageError(str(error)) from None
    for one in opened:
        config.add_cleanup(one.target.close)
        part = f" {one.spelling.rpartition('#')[2]}" if len(opened) > 1 else ""
        for suite in suites:
            item = ConformanceItem.from_parent(session, name=f"hifi_ref[{suite.name}{part}]")
            item.asked = one, suite, run, expectations
            yield item


class ConformanceItem(pytest.Item):
    """One cell of the matrix."""

    asked: tuple

    def runtest(self) -> None:
        from hifi_ref.conform.judge import judge_suite
        from hifi_ref.conform.report import NOT, NOT_OFFERED, XFAIL, cell_report
        from hifi_ref.conform.report_lines import cell_text

        one, suite, run, expectations = self.asked
        cell = judge_suite(one.target, suite, run.accepted)
        report = cell_report(cell, one.spelling, run.repeated, expectations, one.target)
        if report.verdict == NOT_OFFERED:
            pytest.skip("not offered")
        if report.verdict == XFAIL:
            pytest.xfail(report.failures[0].expected_to_fail or "")
        if report.verdict == NOT:
            pytest.fail("\n".join(cell_text(report)), pytrace=False)

    def reportinfo(self) -> tuple[str, None, str]:
        return "hifi_ref", None, self.name
