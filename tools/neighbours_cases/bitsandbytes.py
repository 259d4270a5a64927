"""bitsandbytes.npz: NF4 and FP4, nested too, 8-bit blocks, LLM.int8; as the CPU's back end writes and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from hifi_ref import neighbours as nb
from tools.neighbours_cases.case import Archive, Case

HALVES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def questions(archive: Archive) -> Iterator[Case]:
    for kind in ("nf4", "fp4"):
        yield from _blocks(archive, kind)
        yield from _other_shapes(archive, kind)
        yield from _nested(archive, kind)
    yield from _eight_bit(archive)
    yield from _llm_int8(archive)


def _case(
    archive: Archive, kind: str, operation: str, path: str, parameters: Any, given: Any, expected: Any, **more: Any
):
    return Case(
        "bitsandbytes", f"bitsandbytes.{kind}", operation, path, parameters, given, expected, archive.header, **more
    )


def _blocks(archive: Archive, kind: str) -> Iterator[Case]:
    """Blocks, one a row."""
    for block_size in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        path = f"{kind}_b{block_size}"
        x = archive[f"{path}/input"].astype(np.float32)
        stored, parameters = archive.named(path, "codes", "absmax"), {"block_size": block_size}
        more = {"names": archive.entries[f"{path}/names"], "rows": len(x)}
        yield _case(archive, kind, "encode", path, parameters, {"x": x}, stored, **more)
        if f"{path}/decoded" in archive:
            y = {"y": archive[f"{path}/decoded"]}
            yield _case(archive, kind, "decode", path, parameters, stored, y, shape=x.shape, **more)


def _other_shapes(archive: Archive, kind: str) -> Iterator[Case]:
    """A short last block; half precision; rows that are no multiple of the block."""
    for path in (f"{kind}_rem", f"{kind}_f16", f"{kind}_bf16", f"{kind}_misrow"):
        x, stored = archive[f"{path}/input"], archive.named(path, "codes", "absmax")
        half = HALVES.get(path.rpartition("_")[2])
        x = x if half is None else x.view(half)
        y = archive[f"{path}/decoded"]
        yield _case(archive, kind, "encode", path, {"block_size": 64}, {"x": x}, stored)
        if path.endswith("_misrow"):
            flat = np.repeat(stored["absmax"], 64).reshape(x.shape)
            codes = np.stack([stored["codes"] >> 4, stored["codes"] & 15], axis=-1).reshape(x.shape)
            meant = {"y": archive[f"table_{kind}"][codes] * flat}
            parameters = {"block_size": 64, "rule": "cpu-avx512"}
            more = {"flags": ("ScaleOfAnotherRow",), "without": {"ScaleOfAnotherRow": meant}}
            yield _case(archive, kind, "decode", path, parameters, stored, {"y": y}, shape=x.shape, **more)
        elif half is None:
            yield _case(archive, kind, "decode", path, {"block_size": 64}, stored, {"y": y}, shape=x.shape)


def _nested(archive: Archive, kind: str) -> Iterator[Case]:
    path = f"{kind}_nested"
    x, offset = archive[f"{path}/input"].astype(np.float32), archive[f"{path}/offset"]
    stored = archive.named(path, "codes", "absmax_codes", "absmax2", "offset")
    parameters = {"block_size": 64, "nested": True}
    given = {"x": x}
    encoded = parameters | {"offset": float(offset[0])}
    yield _case(archive, kind, "encode", path, encoded, given, stored, smaller=_first_rows)
    yield _case(
        archive, kind, "decode", path, parameters, stored, {}, shape=x.shape, smaller=_first_rows,
        digest=archive.entries[f"{path}/decoded_sha256"],
    )  # fmt: skip


def _first_rows(case: Case, turn: int) -> Case:
    """256 blocks, so that those of absmax stay whole, of weights that are rows of 64."""
    from dataclasses import replace

    counts = {"x": 16384, "y": 16384, "codes": 8192, "absmax_codes": 256, "absmax2": 1, "offset": 1}

    def cut(arrays: Any) -> dict[str, np.ndarray]:
        made = {name: a.reshape(-1)[: counts[name]] for name, a in arrays.items()}
        return {name: a.reshape(256, 64) if name in ("x", "y") else a for name, a in made.items()}

    return replace(
        case, given=cut(case.given), expected=cut(case.expected), shape=(256, 64) if case.shape else (), digest=""
    )


def _eight_bit(archive: Archive) -> Iterator[Case]:
    for path in [key.removesuffix("/input") for key in archive.arrays if re.fullmatch(r"dyn8_b\d+/input", key)]:
        x, parameters = archive[f"{path}/input"].astype(np.float32), {"block_size": int(path[6:])}
        stored = archive.named(path, "codes", "absmax")
        more = {"names": archive.entries[f"{path}/names"], "rows": len(x)}
        # What the default back end's formula gives, which is known for one of them
        meant = {"codes": nb.encode("bitsandbytes.int8", x, **parameters, rule="default")["codes"]}
        if f"{path}/codes_default_backend" in archive:
            known = {"codes": archive[f"{path}/codes_default_backend"]}
            yield _case(archive, "int8", "encode", path, parameters | {"rule": "default"}, {"x": x}, known, **more)
        faults = {"flags": ("WideTable",), "without": {"WideTable": meant}}
        yield _case(archive, "int8", "encode", path, parameters, {"x": x}, stored, **more, **faults)
        if f"{path}/decoded" in archive:
            y = {"y": archive[f"{path}/decoded"]}
            yield _case(archive, "int8", "decode", path, parameters, stored, y, shape=x.shape, **more)


def _llm_int8(archive: Archive) -> Iterator[Case]:
    names = ("codes", "row_stats", "outlier_cols")
    for path in ("llmint8_f32_t0", "llmint8_f32_t6", "llmint8_f16_t0", "llmint8_f16_t6"):
        x = archive[f"{path}/A"].astype(np.float32 if "f32" in path else np.float16)
        parameters = {"threshold": float(path[-1])}
        yield _case(archive, "llm-int8", "encode", path, parameters, {"x": x}, archive.named(path, *names))
    path = "llmint8_mm"
    stored = {"codes": archive[f"{path}/Wcodes"], "row_stats": archive[f"{path}/Wstats"]}
    w = {"x": archive[f"{path}/W"].astype(np.float32)}
    yield _case(archive, "llm-int8", "encode", path, {"threshold": 0.0}, w, stored)
    given = stored | {"a": archive["llmint8_f32_t0/A"].astype(np.float32)}
    z = archive[f"{path}/out_f32"]
    # The sums in whole numbers, and the scales as the CPU's rule has them, times the right constant
    scales = archive["llmint8_f32_t0/row_stats"][:, None] * stored["row_stats"][None]
    meant = {"z": archive[f"{path}/i32"].astype(np.float32) * scales * np.float32(6.200012e-05)}
    more = {"flags": ("ConstantOf127",), "without": {"ConstantOf127": meant}}
    yield _case(archive, "llm-int8", "matmul", path, {}, given, {"z": z}, **more)


ARCHIVES = {"bitsandbytes.npz": (questions,)}
