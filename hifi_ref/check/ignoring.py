"""Findings that a user knows of and does not want: --ignore=CODE, or CODE:REGEX for the tensors that match."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hifi_ref.commands.command_line import UsageError
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.findings import Finding
from hifi_ref.model_files.gguf_file import printable


def ignoring(rules: Sequence[str]) -> Callable[[Finding], bool]:
    """Which findings the rules ignore. Raises UsageError where one is no rule.

    A rule is a code, or the letter of several; its REGEX is searched in the tensor's name, and in the message of a
    finding that is about no tensor.
    """
    parsed = [_parsed(rule) for rule in rules]

    def ignores(finding: Finding) -> bool:
        about = finding.message if finding.tensor is None else finding.tensor
        return any(finding.code.startswith(code) and pattern.search(about) for code, pattern in parsed)

    return ignores


def _parsed(rule: str) -> tuple[str, re.Pattern[str]]:
    code, _, pattern = rule.partition(":")
    if code not in CODES and code not in {known[0] for known in CODES}:
        raise UsageError(f"--ignore={printable(rule)}: {printable(code)} is no finding code")
    try:
        return code, re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--ignore={printable(rule)}: {printable(pattern)} is no regular expression: {error}"
        ) from None
