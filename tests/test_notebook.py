"""The notebook runs from top to bottom, and what it shows is what comes out."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook" / "blocks.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def run(source: str, names: dict[str, Any]) -> str:
    """What a cell shows: what it prints, then the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        value = last and eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
    return printed.getvalue() + (repr(value) if value is not None else "")


def stored(cell: dict[str, Any]) -> str:
    """What the notebook says that it shows."""
    texts = [output.get("text") or output["data"]["text/plain"] for output in cell["outputs"]]
    return "".join("".join(text) for text in texts)


def test_the_cells() -> None:
    names: dict[str, Any] = {}
    assert len(CODE) >= 12 and [cell["execution_count"] for cell in CODE] == [*range(1, len(CODE) + 1)]
    for cell in CODE:
        source = "".join(cell["source"])
        assert run(source, names) == stored(cell), source


def test_a_wrong_decoder_is_seen() -> None:
    names: dict[str, Any] = {}
    wrong = ["".join(cell["source"]).replace("[low, high]", "[high, low]") for cell in CODE]
    with pytest.raises(AssertionError):
        for source in wrong[: next(i for i, source in enumerate(wrong) if "assert" in source) + 1]:
            run(source, names)


def test_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^):#]+)\)", text)
    assert len(links) >= 5 and [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
