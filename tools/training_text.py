"""The text that the sample model is trained on: the Python sources of two installed packages, of one version each.

Half of it is documentation, in English, and half is code. Files of mostly numbers are left out, and so is what the
packages took from elsewhere under other licences, or build by version of Python. Of the rest one file in 16 is held
out, by a digest of its name.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

VERSIONS = {"numpy": "2.4.6", "scipy": "1.17.1"}
LEFT_OUT = re.compile(r"/(tests?|testing|distutils|f2py|_lib|_external|_vendored|vendored)/|__config__|version\.py$")
MOST_DIGITS = 0.05
HELD_OUT = 16
# Of the training text and of the held-out text, files in order, each behind its name and a line end.
DIGEST = "a343dd2852f16b37fbdbabae2a237a2e589664656ea934c6b74e90b7bdb6b939"


class Text(NamedTuple):
    """``training``, ``held_out``: (name, text) of each file, by name."""

    training: list[tuple[str, str]]
    held_out: list[tuple[str, str]]

    def digest(self) -> str:
        parts = [f"{name}\n{text}" for part in self for name, text in part]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def gather() -> Text:
    """The text. Raises ValueError with one sentence where a package or its text is another than VERSIONS and DIGEST."""
    files = sorted(pair for package in VERSIONS for pair in _files(package))
    parts: tuple[list[tuple[str, str]], ...] = ([], [])
    for name, text in files:
        parts[_number(name) % HELD_OUT == 0].append((name, text))
    found = Text(*parts)
    if found.digest() != DIGEST:
        raise ValueError(f"the text's digest is {found.digest()}, not {DIGEST}: the packages' sources are others")
    return found


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def _files(package: str) -> Iterator[tuple[str, str]]:
    spec, version = util.find_spec(package), VERSIONS[package]
    if spec is None or spec.origin is None or metadata.version(package) != version:
        raise ValueError(f"{package} {version} must be installed: pip install {package}=={version}")
    root = Path(spec.origin).parent
    for path in root.rglob("*.py"):
        name = f"{package}/{path.relative_to(root).as_posix()}"
        if LEFT_OUT.search(name):
            continue
        text = path.read_text("utf-8").strip() + "\n"
        if len(text) > 500 and sum(map(str.isdigit, text)) <= MOST_DIGITS * len(text):
            yield name, text


def parts_of(text: str) -> tuple[str, str]:
    """The documentation of a file, its docstrings one after the other, and its code without them."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    documents = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                documents.append((first.lineno, first.end_lineno or first.lineno, first.value.value))
    for first_line, last_line, _ in documents:
        lines[first_line - 1 : last_line] = [""] * (last_line - first_line + 1)
    return "\n".join(each.strip("\n") for _, _, each in sorted(documents)) + "\n", "".join(lines)
