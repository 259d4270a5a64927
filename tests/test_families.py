"""docs/families.md: its table is that of tools/families.py, with a row for every format."""

from __future__ import annotations

import re

from hifi_ref.formats import LLAMA_CPP
from tests.paths import ROOT
from tools import families

ROWS = {line.split(" | ")[0][2:]: line for line in (ROOT / "docs" / "families.md").read_text().splitlines()
        if re.match(r"\| [A-Z]+\d\w* \|", line)}  # fmt: skip


def test_every_format_has_a_row_and_a_family() -> None:
    assert sorted(ROWS) == sorted(LLAMA_CPP)
    assert sorted(name for names, _ in families.FAMILIES.values() for name in names) == sorted(LLAMA_CPP)
    # What is measured aside: name, family and sizes.
    assert all(families.row(name, []).removesuffix(" |") in line for name, line in ROWS.items())


def test_the_errors() -> None:
    """Those of grids, whose search takes longest, are left to the program."""
    names = [name for name in LLAMA_CPP if name not in families.FAMILIES["grids"][0]]
    assert {name: families.row(name, found) for name, found in families.errors_of(names).items()} == {
        name: ROWS[name] for name in names
    }
