"""`python -m tests.conform.battery.run [SECTION]`: every planted bug against the golden vectors, and the score."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hifi_ref.conform import diagnose, judge
from hifi_ref.conform.cases import Suite, golden_suites, vectors_folder
from hifi_ref.conform.line_target import NotOfferedError
from hifi_ref.formats import FORMATS
from tests.conform.battery.plant import Planted
from tests.conform.battery.planted import PLANTED

SOURCE = Path(__file__).with_name("kernels.c")
BUILT = Path("build/battery")
# Their encoders search where there is importance; the kernels do not.
WITHOUT_IMPORTANCE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
NAMED, SILENT, MISLEADING, MISSED = "named", "silent", "misleading", "missed"


class Kernel:
    """A compiled section as a target of conform."""

    def __init__(self, section: str, old: str = "", new: str = ""):
        self.format, self.operation = section.split(".")
        self.library = ctypes.CDLL(str(compiled(section, old, new)))
        self.library.dot.restype = ctypes.c_float if self.operation == "dot" else None

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray:
        f, rows = FORMATS[self.format], int(context.get("rows", 1))
        first, second = [*given.values(), None][:2]
        assert first is not None
        parts = np.ascontiguousarray(first).reshape(rows, -1)
        if operation == "encode" and second is not None and name in WITHOUT_IMPORTANCE:
            raise NotOfferedError
        return np.concatenate([self._row(f.block_size, f.type_size, part.copy(), second) for part in parts])

    def _row(self, block_size: int, type_size: int, part: np.ndarray, other: np.ndarray | None) -> np.ndarray:
        if self.operation == "decode":
            out = np.zeros(part.size // type_size * block_size + 1024, np.float32)
            self.library.decode(part.size // type_size, _at(part), _at(out))
            return out[:-1024].view(np.uint8)
        if self.operation == "encode":
            blocks = np.zeros(part.size // block_size * type_size + 1024, np.uint8)
            self.library.encode(part.size // block_size, _at(part), _at(blocks))
            return blocks[:-1024]
        assert other is not None
        padded = [np.concatenate([a, np.zeros(1024, np.uint8)]) for a in (part, other)]
        return np.array([self.library.dot(part.size // type_size, *map(_at, padded))], np.float32).view(np.uint8)


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def compiled(section: str, old: str, new: str) -> Path:
    """The shared library of a section with one text in another's place. Raises ValueError where it is not there."""
    sections = dict(
        re.findall(r"^// (common|\w+\.\w+)\n(.*?)(?=^// (?:common|\w+\.\w+)\n|\Z)", SOURCE.read_text(), re.M | re.S)
    )
    common, text = sections["common"], sections[section]
    if old and old not in text and old not in common:
        raise ValueError(f"{section}: there is no {old!r}")
    text, common = (text.replace(old, new), common) if old in text else (text, common.replace(old, new))
    source = common + text + "".join(f"void {f}(void) {{}}\n" for f in ("dot",) if not section.endswith(f))
    BUILT.mkdir(parents=True, exist_ok=True)
    path = BUILT / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        command = ["cc", "-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), "-lm"]
        subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return path.resolve()


class Result(NamedTuple):
    planted: Planted
    outcome: str
    diagnosis: str


def judged(suite: Suite, planted: Planted) -> Result:
    cell = judge.judge_suite(Kernel(planted.section, planted.old, planted.new), suite)
    if not cell.failures:
        return Result(planted, MISSED, "")
    diagnosis = diagnose.diagnose(cell)
    if diagnosis is None:
        return Result(planted, SILENT, "")
    right = re.search(planted.words, f"{diagnosis.kind}: {diagnosis.says}", re.I)
    return Result(planted, NAMED if right else MISLEADING, str(diagnosis))


def suites() -> dict[str, Suite]:
    return {suite.name: suite for suite in golden_suites(vectors_folder())}


def main(wanted: list[str]) -> int:
    every, outcomes = suites(), Counter[str]()
    for planted in PLANTED:
        if not wanted or planted.section in wanted:
            result = judged(every[planted.section], planted)
            outcomes[result.outcome] += 1
            print(f"{result.outcome:<10} {planted.section:<14} `{planted.old}` -> `{planted.new}`")
            print(f"{'':11}{result.diagnosis}")
            sys.stdout.flush()
    print(dict(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
