"""other.npz: systems that have one scheme each: GPTQ, AWQ, compressed-tensors, HQQ, MLX affine, FP8 in tiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tools.neighbours_cases.case import Archive, Case


def questions(archive: Archive) -> Iterator[Case]:
    yield from _mlx(archive)
    yield from _compressed_tensors(archive)
    yield from _hqq(archive)
    yield from _awq(archive)
    yield from _gptq(archive)
    yield from _fp8(archive)


def _paths(archive: Archive, pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
    for path in dict.fromkeys(key.rpartition("/")[0] for key in archive.arrays):
        if found := re.fullmatch(pattern, path):
            yield path, found


def _mlx(archive: Archive) -> Iterator[Case]:
    for path, found in _paths(archive, r"mlx_(g(\d+)_q(\d)|f16)"):
        group_size, bits = int(found[2] or 64), int(found[3] or 4)
        source = path.rpartition("_q")[0] or path
        x = archive[f"{source}/input"]
        stored = archive.named(path, "codes", "scales", "biases")
        more = {"names": archive.entries.get(f"{source}/names", ()), "rows": len(x), "header": archive.header}
        parameters = {"bits": bits, "group_size": group_size}
        yield Case("mlx", "mlx.affine", "encode", path, parameters, {"x": x}, stored, **more)
        y = {"y": archive[f"{path}/decoded"].astype(np.float32)}
        yield Case("mlx", "mlx.affine", "decode", path, parameters, stored, y, shape=x.shape, **more)


def _whole(
    archive: Archive, system: str, path: str, parameters: Any, x: Any, stored: Any, y: Any = None, digest: str = ""
):
    """Encode, if stored values follow from x, and decode, if what it gives is known."""
    given = x if isinstance(x, dict) else {"x": x}
    dialect = system.partition(".")[0]
    if parameters.get("optimize") is not True:
        yield Case(dialect, system, "encode", path, parameters, given, stored, archive.header)
    if y is not None or digest:
        expected = {} if y is None else {"y": y}
        shape = given["x"].shape
        yield Case(
            dialect, system, "decode", path, parameters, stored, expected, archive.header, shape=shape, digest=digest
        )


def _compressed_tensors(archive: Archive) -> Iterator[Case]:
    x = archive["ct/input"]
    for path, found in _paths(archive, r"ct_int(\d)_([sa])"):
        names = ["packed", "scale", "zero", "q", *(["zero_packed"] if found[2] == "a" else [])]
        parameters = {"bits": int(found[1]), "group_size": 128, "symmetric": found[2] == "s"}
        stored = archive.named(path, *names)
        yield from _whole(archive, "compressed-tensors", path, parameters, x, stored, archive[f"{path}/decoded"])


def _hqq(archive: Archive) -> Iterator[Case]:
    for case in _hqq_whole(archive):
        yield replace(case, smaller=_some_groups)


def _some_groups(case: Case, turn: int) -> Case:
    """Some columns of codes for axis 0; for axis 1 some of their rows, with all weights that these hold."""
    known = {**case.given, **case.expected}
    x = known.get("x", known.get("y"))
    packed = known["codes"].shape[0]
    if case.parameters["axis"] == 0:
        at = (slice(None), slice(8 * turn % 64, 8 * turn % 64 + 8))
        cut = {name: array[at] for name, array in known.items()}
    else:
        size, last = case.parameters["group_size"], x.size // case.parameters["group_size"]
        chosen = np.array([turn % (packed - 2), turn % (packed - 2) + 1])
        rows = np.concatenate([chosen + start for start in range(0, last - 1, packed)])
        at = {"codes": chosen, "scale": rows, "zero": rows}
        cut = {name: array[at[name]] for name, array in known.items() if name in at}
        cut |= {name: known[name].reshape(-1, size)[rows] for name in ("x", "y") if name in known}
    shape = cut.get("x", cut.get("y")).shape
    given, expected = ({name: cut[name] for name in arrays} for arrays in (case.given, case.expected))
    return replace(case, given=given, expected=expected, shape=shape if case.shape else (), digest="")


def _hqq_whole(archive: Archive) -> Iterator[Case]:
    x = archive["hqq/input"]
    for path, found in _paths(archive, r"hqq_q(\d)_ax(\d)(_opt)?"):
        parameters = {"bits": int(found[1]), "group_size": 64, "axis": int(found[2]), "optimize": bool(found[3])}
        stored = archive.named(path, "codes", "scale", "zero")
        y, digest = archive.arrays.get(f"{path}/decoded"), archive.entries.get(f"{path}/decoded_sha256", "")
        yield from _whole(archive, "hqq", path, parameters, x, stored, y, digest)


def _awq(archive: Archive) -> Iterator[Case]:
    for path in ("awq_f32", "awq_f16"):
        stored = archive.named(path, "qweight", "qzeros", "scales")
        yield from _whole(archive, "awq", path, {"bits": 4, "group_size": 64}, archive[f"{path}/input"], stored)


def _gptq(archive: Archive) -> Iterator[Case]:
    for path, found in _paths(archive, r"gptq_q(\d)"):
        bits = int(found[1])
        scale, zero, q = (archive[f"{path}/{name}"] for name in ("scale", "zero", "q"))
        given = {"x": archive[f"{path}/weight"], "scale": scale, "zero": zero}
        half = np.repeat(scale.astype(np.float16).astype(np.float32), 32, axis=1)
        # The product of a half and a difference of codes is exact.
        y = half * (q.astype(np.float32) - np.repeat(zero, 32, axis=1))
        for version in (1, 2):
            if f"{path}/qzeros_v{version}" in archive:
                stored = archive.named(path, "qweight", "scales") | {"qzeros": archive[f"{path}/qzeros_v{version}"]}
                parameters = {"bits": bits, "group_size": 32, "version": version}
                yield from _whole(archive, "gptq", path, parameters, given, stored, y)


def _fp8(archive: Archive) -> Iterator[Case]:
    x = archive["fp8_block/input"].astype(np.float32)
    for scale_type in ("f32", "ue8m0"):
        path = f"fp8_block_{scale_type}"
        parameters, stored = {"scale_type": scale_type}, archive.named(path, "scale_inv", "codes")
        more = {"every": 8, "smaller": _some_rows}
        yield Case("fp8", "fp8.block", "encode", path, parameters, {"x": x}, stored, archive.header, **more)


def _some_rows(case: Case, turn: int) -> Case:
    """Of one row of tiles those rows whose codes are known, and behind them those that hold the largest magnitudes."""
    x = case.given["x"]
    largest = np.abs(x).reshape(len(x), -1, 128).max(axis=2).argmax(axis=0)
    rows = [*range(0, len(x), case.every), *sorted({int(row) for row in largest if row % case.every})]
    codes = case.answer()["codes"][rows]
    return replace(case, given={"x": x[rows]}, expected={**case.expected, "codes": codes}, every=1)


ARCHIVES = {"other.npz": (questions,)}
