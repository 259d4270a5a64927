"""docs/exact.md: its table is that of tools/compiler_facts.py, and says of the jax that is here what is so."""

from __future__ import annotations

import re

import jax

from tests.paths import ROOT
from tools import compiler_facts

PAGE = (ROOT / "docs" / "exact.md").read_text()


def test_what_xla_makes_of_arithmetic() -> None:
    n = 1 << 14
    found = dict([*compiler_facts.products(n), *compiler_facts.others(n)])
    rows = re.findall(r"^\| `(.+)` \| ([\d.]+)% \| ([\d.]+)% \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == list(found)
    # What this project has against it holds for whichever jax, and is needed.
    assert {wrong for written, wrong in found.items() if "exact." in written} == {0}
    assert found["a*b + c"] > 0.2 and found["a / 63"] > 0.6

    versions = re.findall(r"jax ([\d.]+)", PAGE.split("| written |")[1].split("\n")[0])
    assert len(versions) == 2
    if jax.__version__ in versions:
        # The order of a sum also depends on how many there are.
        rows = [row for row in rows if not row[0].startswith("sum of")]
        column = 1 + versions.index(jax.__version__)
        assert all((float(row[column]) > 0) == (found[row[0]] > 0) for row in rows)
