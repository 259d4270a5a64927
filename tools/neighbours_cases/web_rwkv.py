"""webrwkv*.npz: web-rwkv's own types and products; and what a fork of it makes of llama.cpp's blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import hifi_ref as hr
from tools.neighbours_cases.case import Archive, Case

DIALECT = "web-rwkv"
# What the fork's kernels do wrong, by block format and kernel
KERNEL_FAULTS = {
    ("Q8_0", "mat"): "StrideOf36",
    ("Q6_K", "mat"): "TruncatedBase",
    **{(name, "vec"): "DivergentBarrier" for name in ("Q8_0", "Q5_K", "Q6_K")},
}


def blocks(archive: Archive) -> Iterator[Case]:
    for kind in ("int8", "nf4", "sf4"):
        x, stored = archive[f"{kind}/input"], archive.named(kind, "codes", "meta")
        more = {"names": archive.entries[f"{kind}/names"], "rows": len(x)}
        yield _case(archive, kind, "encode", kind, {}, {"x": x}, stored, **more)
        matrix = {name: archive[f"{kind}/mm_{name}"] for name in ("codes", "meta")}
        yield _case(archive, kind, "encode", f"{kind}/mm", {}, {"x": archive[f"{kind}/mm_W"]}, matrix)
        for kernel in ("vec", "mat"):
            given = matrix | {"a": archive[f"{kind}/mm_X"]}
            z = {"z": archive[f"{kind}/mm_{kernel}"]}
            yield _case(
                archive, kind, "matmul", f"{kind}/mm_{kernel}", {"kernel": kernel}, given, z, smaller=_four_outputs
            )
        given, z = matrix | {"a": archive[f"{kind}/mm_X"].astype(np.float16)}, {"z": archive[f"{kind}/mm_vec_h"]}
        yield _case(archive, kind, "matmul", f"{kind}/mm_vec_h", {"kernel": "vec"}, given, z, smaller=_four_outputs)
        decoded, finite = archive[f"{kind}/decoded_by_kernel"], np.isfinite(x.astype(np.float32)).all(axis=1)
        # One-hot products lose the sign of zero, and give NaN for a whole block that holds one
        rows = np.flatnonzero(finite & (decoded != 0).all(axis=1) & np.isfinite(decoded).all(axis=1))
        whole = _case(archive, kind, "decode", kind, {}, stored, {"y": decoded}, shape=x.shape, **more)
        yield whole.part(rows)


def _four_outputs(case: Case, turn: int) -> Case:
    """Of sixteen; and three rows of activations of five."""
    at = slice(4 * turn % 16, 4 * turn % 16 + 4)
    given = {name: array.reshape(16, -1, *array.shape[1:])[at] for name, array in case.given.items() if name != "a"}
    given = {name: array.reshape(-1, *case.given[name].shape[1:]) for name, array in given.items()}
    return replace(case, given=given | {"a": case.given["a"][:3]}, expected={"z": case.expected["z"][:3, at]})


def partial(archive: Archive) -> Iterator[Case]:
    for size in ("4x80", "8x64", "3x32"):
        x = archive[f"{size}/input"]
        int8 = {"codes": archive[f"{size}/int8_codes"], "meta": archive[f"{size}/int8_meta"]}
        yield _case(archive, "int8", "encode", size, {}, {"x": x}, int8)
        nf4 = {"codes": archive[f"{size}/nf4_codes"], "meta": archive[f"{size}/nf4_absmax"].astype(np.float16)}
        yield _case(archive, "nf4", "encode", size, {}, {"x": x}, nf4)


def _case(
    archive: Archive, kind: str, operation: str, path: str, parameters: Any, given: Any, expected: Any, **more: Any
):
    return Case(DIALECT, f"web-rwkv.{kind}", operation, path, parameters, given, expected, archive.header, **more)


def fork_kernels(archive: Archive) -> Iterator[Case]:
    """Products of llama.cpp's blocks, of known true values; and what the fork's kernels give where they are wrong."""
    for path in dict.fromkeys(key.partition("/")[0] for key in archive.arrays):
        name = path.removeprefix("fork_").rpartition("_")[0].upper()
        name = f"{name[:2]}_K" if name.endswith("K") else name
        raw, a, true = (archive[f"{path}/{key}"] for key in ("bytes", "X", "true_f64"))
        w = hr.decode(name, raw.reshape(true.shape[1], -1)).astype(np.float64)
        bound = np.abs(a).astype(np.float64) @ np.abs(w).T * (a.shape[1] * 2.0**-24)
        faulty = {
            flag: {"z": archive[f"{path}/{kernel}"]} for (block, kernel), flag in KERNEL_FAULTS.items() if block == name
        }
        given = {"blocks": raw.reshape(true.shape[1], -1), "a": a}
        yield Case(
            DIALECT, f"gguf.{name}", "matmul", path, {}, given, {"z": true.astype(np.float32)}, archive.header,
            faulty=faulty, bound={"z": bound.astype(np.float32)},
        )  # fmt: skip


def fork_host(archive: Archive) -> Iterator[Case]:
    """Blocks decoded to binary16, by the fork's own code for the host."""
    for path in ("q4_0", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"):
        name, raw, y = path.upper(), archive[f"{path}/bytes"], archive[f"{path}/dequant_f16"]
        true = hr.decode(name, raw).astype(np.float16)
        faulty = {} if np.array_equal(true, y) else {"InterleavedNibbles": {"y": y}}
        yield Case(
            DIALECT, f"gguf.{name}", "decode", path, {}, {"blocks": raw}, {"y": true}, archive.header,
            shape=true.shape, faulty=faulty,
        )  # fmt: skip


ARCHIVES = {
    "webrwkv.npz": (blocks,),
    "webrwkv_partial.npz": (partial,),
    "webrwkv_fork.npz": (fork_kernels,),
    "webrwkv_fork_host.npz": (fork_host,),
}
