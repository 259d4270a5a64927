"""docs/porting.md: its first try is judged as it says, its second conforms, and its table has every kind of mistake."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hifi_ref.known_bugs import KINDS
from tests.conform.helpers import EXAMPLES, run
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "porting.md").read_text()
SOURCE = (EXAMPLES / "decode_q4_k.c").read_text()
FIRST_TRY, CORRECTION = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)
COMPILER = ("cc", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'golden'}", "-o", "decode_q4_k")


def test_the_first_try_and_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ((command, shown),) = re.findall(r"```console\n\$ python -m hifi_ref.conform (.*?)\n(.*?)```", PAGE, re.DOTALL)
    wrong = re.findall(r"    int (?:scale|min) = .*\n", FIRST_TRY)
    tries = {FIRST_TRY: 1, FIRST_TRY.replace("".join(wrong), CORRECTION): 0}
    right = list(tries)[1]
    assert right in SOURCE and len(tries) == 2
    monkeypatch.chdir(tmp_path)
    for text, expected in tries.items():
        Path("decode_q4_k.c").write_text(SOURCE.replace(right, text))
        subprocess.run((*COMPILER, "decode_q4_k.c"), check=True)
        code, out, err = run(capsys, *command.split())
        assert (code, err) == (expected, "")
        assert out.startswith(shown) if expected else "Q4_K    119 exact" in out


def test_every_kind_of_mistake_is_in_the_table() -> None:
    rows = re.findall(r"^\| [^|]*\| ([^|]*) \| [^|]+ \| [^|]+ \|$", PAGE.split("\n## Mistakes")[1], re.MULTILINE)
    assert rows[0] == "kind" and sorted(rows[1:]) == sorted(KINDS)
