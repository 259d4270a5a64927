"""Files to check, and what check says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hifi_ref.check.command import check_file
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, open_gguf
from tests.hostile import build, run_check


def blocks_file(path: Path, name: str, blocks: np.ndarray, order: str = "<") -> int:
    """Write a file with one tensor t of these blocks, uint8[n, type_size]; return where its data starts."""
    type_id, kind = next((i, kind) for i, kind in TENSOR_TYPES.items() if kind.name == name)
    path.write_bytes(build([("t", type_id, (len(blocks) * kind.block_size,), blocks.tobytes())], order=order))
    return open_gguf(path).tensors[0].start


def findings_of(path: Path) -> list[tuple[str, str, int | None, str]]:
    return [(f.code, f.message, f.count, f.field) for f in check_file(path).findings.kept if f.code[0] != "L"]


def one_tensor(path: Path, name: str, shape: tuple[int, ...], data: np.ndarray) -> Path:
    """Write a file that holds one tensor of a format, t.weight; its shape as NumPy has it."""
    path.write_bytes(build([("t.weight", FORMATS[name].type_id, shape[::-1], data.tobytes())]))
    return path


def compare(path: Path, source: Path, *flags: str) -> tuple[int, dict, str]:
    """Exit code, JSON report, text. Whether it would load is left to other tests: many files are no models."""
    report = path.parent / "report.json"
    code, out, err = run_check(path, f"--source={source}", f"--json={report}", "--ignore=L", *flags)
    assert err == "", err
    return code, json.loads(report.read_text()), out


def outcomes(report: dict) -> dict[str, tuple[str, str | None]]:
    return {t["name"]: (t["source"]["outcome"], t["source"]["meaning"]) for t in report["tensors"] if "source" in t}


def different(report: dict) -> dict[str, tuple[str, str | None]]:
    return {name: found for name, found in outcomes(report).items() if found[0] != "reproduced"}


def check_file_against(path: Path, source: Path, *flags: str) -> list[dict]:
    """The findings about what differs from the source."""
    report = json.loads(run_check(path, f"--source={source}", "--json", "--ignore=L", *flags)[1])
    return [f for f in report["findings"] if f["code"].startswith("E")]
