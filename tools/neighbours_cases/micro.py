"""mx.npz, dots.npz and the MX and NVFP4 parts of other.npz: as torchao, ModelOpt, microxcaling and MLX write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import small_floats
from hifi_ref.neighbours.mx import KINDS
from tools.neighbours_cases.case import Archive, Case

SCHEMES = {
    "mxfp8_e4m3": "mx.fp8_e4m3", "mxfp8_e5m2": "mx.fp8_e5m2", "mxfp6_e3m2": "mx.fp6_e3m2", "mxfp6_e2m3": "mx.fp6_e2m3",
    "mxfp4": "mx.fp4_e2m1", "mxint8": "mx.int8",
}  # fmt: skip
WRITERS = {"ao_single": "torchao-single", "ao_two": "torchao", "modelopt": "modelopt"}


def microscaling(archive: Archive) -> Iterator[Case]:
    x, names = archive["input"], archive.entries["names"]
    for path in dict.fromkeys(key.rpartition("/")[0] for key in archive.arrays if key.startswith("mx")):
        element, _, writer = path.partition("/")
        if not writer:
            continue
        about = {"header": archive.header, "names": names, "rows": len(x)}
        if writer.startswith("microxcaling"):
            yield from _values(archive, path, SCHEMES[element], x, about)
            continue
        dialect, rule = ("torchao", writer[3:]) if writer.startswith("ao_") else (writer, writer)
        stored = archive.named(path, "scale", "codes")
        asked = (dialect, SCHEMES[element])
        yield from _encoded(*asked, path, {"rule": rule}, x, stored, about)
        if f"{path}/decoded" in archive:
            y = {"y": archive[f"{path}/decoded"]}
            yield Case(*asked, "decode", path, {"rule": rule}, stored, y, shape=x.shape, **about)


def _values(archive: Archive, path: str, scheme: str, x: np.ndarray, about: Any) -> Iterator[Case]:
    """Of a library that stores no bytes: those that its values have."""
    parameters = {"rule": "microxcaling", "rounding": path.rpartition("_")[2]}
    stored = nb.encode(scheme, x, **parameters)
    y = {"y": archive[f"{path}/value"]}
    yield Case("microxcaling", scheme, "decode", path, parameters, stored, y, shape=x.shape, **about)
    yield Case("microxcaling", scheme, "encode", path, parameters, {"x": x}, stored, **about)


def _encoded(dialect: str, scheme: str, path: str, parameters: Any, x: np.ndarray, stored: Any, about: Any):
    """Rows that show a fault of the writer's stand in cases of their own."""
    whole = Case(dialect, scheme, "encode", path, parameters, {"x": x}, stored, **about)
    lost = ~np.isfinite(x).all(axis=1)
    scale = stored["scale"].reshape(-1)
    faults = {
        "ScaleByteZero": (scale == 0) & (x != 0).any(axis=1) & ~lost & (dialect == "torchao"),
        "NotFiniteLost": lost & (scale != 255) & (dialect in ("modelopt", "mlx")),
        "WrappedScale": (scale == 254) & (np.abs(x) < 1).all(axis=1) & (dialect == "mlx"),
    }
    for flag, rows in faults.items():
        if rows.any():
            part = whole.part(np.flatnonzero(rows))
            yield replace(part, flags=(flag,), without={flag: _without(flag, scheme, part)})
    yield whole.part(np.flatnonzero(~np.any(list(faults.values()), axis=0)))


def _without(flag: str, scheme: str, case: Case) -> dict[str, np.ndarray]:
    """What a writer without the fault stores; arrays that are not here may hold anything."""
    scale = case.expected["scale"]
    if flag == "ScaleByteZero":
        # Divided by the 2^-127 that byte 0 stands for
        elements = (case.given["x"].astype(np.float64) * 2.0**127).astype(np.float32)
        codes = small_floats.narrow(KINDS[scheme.removeprefix("mx.")], elements)
        fp4 = scheme == "mx.fp4_e2m1"
        return {"scale": scale, "codes": codes[:, 0::2] | codes[:, 1::2] << 4 if fp4 else codes}
    return {"scale": np.full_like(scale, 255 if flag == "NotFiniteLost" else 0)}


def nvfp4(archive: Archive) -> Iterator[Case]:
    for source in [key.removesuffix("/input") for key in archive.arrays if key.endswith("/input")]:
        x = archive[f"{source}/input"]
        for written, writer in WRITERS.items():
            path = f"{source}/{written}"
            names = [n for n in ("tensor_scale", "scale", "codes") if f"{path}/{n}" in archive]
            stored, parameters = archive.named(path, *names), {"writer": writer}
            dialect = writer.partition("-")[0]
            lost = np.isnan(stored.get("tensor_scale", np.zeros(1))).any()
            more = {"smaller": _without_codes} if lost else {}
            yield Case(dialect, "nvfp4", "encode", path, parameters, {"x": x}, stored, archive.header, **more)
            if f"{path}/decoded" in archive:
                y = {"y": archive[f"{path}/decoded"]}
                yield Case(dialect, "nvfp4", "decode", path, parameters, stored, y, archive.header, shape=x.shape)


def _without_codes(case: Case, turn: int) -> Case:
    """Under a NaN tensor scale codes follow from a NaN's sign, which is the processor's choice."""
    return replace(case, expected={name: array for name, array in case.expected.items() if name != "codes"})


def mlx(archive: Archive) -> Iterator[Case]:
    x, names = archive["mlx_mx/input"], archive.entries["mlx_mx/names"]
    about = {"header": archive.header, "names": names, "rows": len(x)}
    for mode, scheme in {"mxfp4": "mx.fp4_e2m1", "mxfp8": "mx.fp8_e4m3", "nvfp4": "nvfp4"}.items():
        path = f"mlx_{mode}"
        # The words that MLX packs codes into, taken apart, are bytes in the order that others store
        codes = archive[f"{path}/codes"].view(np.uint8).reshape(len(x), -1)
        stored = {"scale": archive[f"{path}/scales"], "codes": codes}
        parameters = {"writer": "mlx"} if mode == "nvfp4" else {"rule": "mlx"}
        if mode == "nvfp4":
            yield Case("mlx", scheme, "encode", path, parameters, {"x": x}, stored, **about)
        else:
            yield from _encoded("mlx", scheme, path, parameters, x, stored, about)
        y = {"y": archive[f"{path}/decoded"]}
        yield Case("mlx", scheme, "decode", path, parameters, stored, y, shape=x.shape, **about)


def products(archive: Archive) -> Iterator[Case]:
    """Operands of products, encoded."""
    for element, scheme in SCHEMES.items():
        for operand in ("X", "W") if f"{element}/X_codes" in archive else ():
            x = archive[operand]
            stored = {name: archive[f"{element}/{operand}_{name}"] for name in ("scale", "codes")}
            path = f"{element}/{operand}"
            parameters, more = {"rule": "floor"}, {"header": archive.header, "rows": len(x)}
            yield Case("torchao", scheme, "encode", path, parameters, {"x": x}, stored, **more)


ARCHIVES = {"mx.npz": (microscaling, nvfp4), "other.npz": (mlx,), "dots.npz": (products,)}
