"""hyper.npz: Hyper-Quantization."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from hifi_ref import neighbours as nb
from tools.neighbours_cases.case import Archive, Case

SINGLE = re.compile(r"s_b(\d+)_q(\d)([sa])_([a-z0-9]+)(_nogl)?")
DOUBLE = re.compile(r"d_(\d+)x(\d+)_q(\d)([sa])_q(\d)([sa])_([a-z0-9]+)")


def questions(archive: Archive) -> Iterator[Case]:
    for path in dict.fromkeys(key.rpartition("/")[0] for key in archive.entries):
        if found := SINGLE.fullmatch(path):
            block_size, bits, kind, scale_type, apart = found.groups()
            parameters = _kind(bits, block_size, kind) | {"scale_type": scale_type, "group_last": not apart}
            yield from _both(archive, path, f"in_b{block_size}", parameters)
        elif found := DOUBLE.fullmatch(path):
            inner, outer, bits, kind, outer_bits, outer_kind, scale_type = found.groups()
            parameters = _kind(bits, inner, kind) | {"scale_type": scale_type}
            yield from _both(
                archive, path, f"din_{inner}x{outer}", parameters | {"outer": _kind(outer_bits, outer, outer_kind)}
            )
        elif path.startswith("edge_"):
            yield from _both(archive, path, "edge_in", _kind("4", "8", "s") | {"scale_type": path[5:]})
        elif path in ("spec_s", "spec_a"):
            yield from _both(archive, path, "spec_in", _kind("4", "16", path[-1]))
        elif path == "layout":
            parameters = _kind("5", "32", "a")
            x, stored = archive["layout_in"], archive["layout/Q"].reshape(9, 24)
            yield _case(archive, "encode", path, parameters, {"x": x}, {"bytes": stored}, rows=3)
        elif path == "":
            yield from _losses(archive)


def _losses(archive: Archive) -> Iterator[Case]:
    """What is meant, with what the original computes as its fault; in float32 sums of an order of their own."""
    x = archive["loss_in"].astype(np.float32)
    for name in ("b8_q4s_fp16", "b16_q2a_bf16", "b32_q8s_fp16", "b64_q4a_fp8"):
        block_size, bits, kind, scale_type = re.fullmatch(r"b(\d+)_q(\d)([sa])_([a-z0-9]+)", name).groups()
        parameters = _kind(bits, block_size, kind) | {"scale_type": scale_type}
        y = nb.decode("hyper", nb.encode("hyper", x, **parameters), x.shape, **parameters)
        losses = archive.entries[f"loss_{name}"]
        meant, coded = (np.array(losses[key], np.float32) for key in ("within_block", "as_coded"))
        yield _case(
            archive, "loss", f"loss_{name}", {"block_size": int(block_size)}, {"x": x, "y": y}, {"loss": meant},
            faulty={"LossAxis": {"loss": coded}}, bound={"loss": meant * np.float32(1e-5)},
        )  # fmt: skip


def _kind(bits: str, block_size: str, kind: str) -> dict[str, Any]:
    return {"bits": int(bits), "block_size": int(block_size), "symmetric": kind == "s"}


def _both(archive: Archive, path: str, source: str, parameters: dict[str, Any]) -> Iterator[Case]:
    x = archive[source].astype(np.float32)
    names = archive.entries.get(f"{source}/names", ())
    if f"{path}/bytes" not in archive:
        # Kept only as a digest of what it decodes to
        stored = nb.encode("hyper", x, **parameters)["bytes"]
    else:
        stored = archive[f"{path}/bytes"]
        yield _case(archive, "encode", path, parameters, {"x": x}, {"bytes": stored}, names=names, rows=len(x))
    given = {"bytes": stored}
    known = {"y": archive[f"{path}/decoded"].astype(np.float32)} if f"{path}/decoded" in archive else {}
    shape = x.shape
    if digest := archive.entries.get(f"{path}/sha_f32"):
        yield _case(
            archive, "decode", path, parameters, given, known, names=names, rows=len(x), shape=shape, digest=digest
        )
    elif known:
        yield _case(archive, "decode", path, parameters, given, known, names=names, rows=len(x), shape=shape)
    if native := archive.entries.get(f"{path}/sha_native"):
        computed = parameters | {"compute": parameters["scale_type"]}
        yield _case(
            archive, "decode", path, computed, given, {}, names=names, rows=len(x), shape=shape, digest=native[:16]
        )


def _case(archive: Archive, operation: str, path: str, parameters: Any, given: Any, expected: Any, **more: Any) -> Case:
    return Case("hyper", "hyper", operation, path, parameters, given, expected, archive.header, **more)


ARCHIVES = {"hyper.npz": (questions,)}
