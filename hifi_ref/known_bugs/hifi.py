"""Wrong implementations of the HIFI fork's formats: what ports of it, early plans, or the fork itself did wrong.

They are a list of their own, since their vectors lie in golden/hifi.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import api
from hifi_ref.formats import HIFI
from hifi_ref.formats.hifi.transcode import base_of
from hifi_ref.known_bugs.bug import Bug, bug

KINDS = {
    "replace or add": "Outliers are added to the base's weights where they replace them, or the other way round.",
    "residual scale": "Corrections are divided by 127 once too often, or not at all.",
    "duplicate positions": "Of slots with one position, the wrong one counts.",
    "outlier count": "The count is not held to the slots, or read where there is none.",
    "outliers left in": "The base is encoded with the outliers in it, so that its scales must cover them.",
    "block stride": "Blocks of the format are walked through in steps of its base.",
}
REPLACED = ("Q3_K_HIFI", "Q4_K_HIFI", "Q6_K_HIFI", "Q6_K_HIFI_DYNAMIC", "Q2_K_HIFI")
ADDED = ("Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8", "Q3_K_HIFI_RES8", "Q2_K_LITE", "Q3_K_LITE", "Q4_K_LITE", "Q5_K_LITE",
         "Q6_K_LITE")  # fmt: skip


def _base(name: str, blocks: np.ndarray) -> np.ndarray:
    base = base_of(name).LAYOUT
    return api.decode(base.name, np.ascontiguousarray(blocks[:, : base.type_size]), lane="numpy")


def _fields(name: str, blocks: np.ndarray) -> dict[str, np.ndarray]:
    return HIFI[name].layout.by_name(blocks)


def _with(name: str, blocks: np.ndarray, **fields: np.ndarray) -> np.ndarray:
    return HIFI[name].layout.pack(**(_fields(name, blocks) | fields))


def _used(name: str, fields: dict[str, np.ndarray]) -> np.ndarray:
    slots = fields["at"].shape[-1]
    count = fields["count"] & 127 if "count" in fields else np.full(len(fields["at"]), slots)
    return np.arange(slots) < count[:, None]


def _adds(name: str) -> Callable:
    def run(blocks: np.ndarray) -> np.ndarray:
        fields, y = _fields(name, blocks), _base(name, blocks)
        for r, used in enumerate(_used(name, fields).T):
            with np.errstate(all="ignore"):
                y[used, fields["at"][used, r]] += fields["values"][used, r]
        return y

    return run


def _first_stays(name: str) -> Callable:
    def run(blocks: np.ndarray) -> np.ndarray:
        fields = _fields(name, blocks)
        # The slots in reverse order, the unused ones still behind.
        order = np.argsort(np.where(_used(name, fields), -np.arange(fields["at"].shape[-1]), 99), axis=1, kind="stable")
        turned = {k: np.take_along_axis(fields[k], order, axis=1) for k in ("at", "values")}
        return api.decode(name, _with(name, blocks, **turned), lane="numpy")

    return run


def _scaled(name: str, factor: float) -> Callable:
    """The correction, enlarged by a factor."""

    def run(blocks: np.ndarray) -> np.ndarray:
        whole, base = api.decode(name, blocks, lane="numpy"), _base(name, blocks)
        with np.errstate(all="ignore"):
            return np.where(whole == base, whole, base + (whole - base) * np.float32(factor))

    return run


def _count_is_nothing(name: str) -> Callable:
    def run(blocks: np.ndarray) -> np.ndarray:
        fields = _fields(name, blocks)
        count = np.where((fields["count"] & 127) > fields["at"].shape[-1], fields["count"] & 128, fields["count"])
        return api.decode(name, _with(name, blocks, count=count.astype(np.uint8)), lane="numpy")

    return run


def _loses_the_sixth(blocks: np.ndarray) -> np.ndarray:
    fields = _fields("Q5_K_HIFI_RES8", blocks)
    values, count = fields["values"].copy(), fields["count"]
    values[(count == 6) | (count == 7), 5] = 0
    values[count == 7, 6] = 0
    return api.decode("Q5_K_HIFI_RES8", _with("Q5_K_HIFI_RES8", blocks, values=values), lane="numpy")


def _left_in(name: str) -> Callable:
    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        base = base_of(name).LAYOUT
        right = api.encode(name, x, weights, lane="numpy").reshape(-1, HIFI[name].type_size)
        right[:, : base.type_size] = api.encode(base.name, x, lane="numpy").reshape(-1, base.type_size)
        return right.reshape(len(x), -1)

    return run


def _dot_adds(name: str) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        size, base = HIFI[name].type_size, base_of(name).LAYOUT
        blocks = w.reshape(-1, size)
        plain = np.ascontiguousarray(blocks[:, : base.type_size]).reshape(len(w), -1)
        fields = _fields(name, blocks)
        activations = api.decode("Q8_K", a, lane="numpy").reshape(1, -1, 256)
        own = np.take_along_axis(np.repeat(activations, len(w), 0).reshape(-1, 256), fields["at"].astype(int), axis=1)
        with np.errstate(all="ignore"):
            extra = (fields["values"] * own).sum(axis=1).reshape(len(w), -1).sum(axis=1)
            return api.dot(base.name, plain, a, lane="numpy") + extra.astype(np.float32)

    return run


def _wrong_stride(w: np.ndarray, a: np.ndarray) -> np.ndarray:
    blocks = w.shape[1] // HIFI["Q6_K_HIFI"].type_size
    return api.dot("Q6_K", np.ascontiguousarray(w[:, : 210 * blocks]), a, lane="numpy")


def bugs() -> Iterator[Bug]:
    """All of them."""
    for name in REPLACED:
        yield bug("replace or add", name, "decode", "added outliers",
                  "Adds outliers to the base's weights instead of replacing these.", _adds(name))  # fmt: skip
        yield bug("duplicate positions", name, "decode", "first duplicate",
                  "Of slots with one position, the first decides, not the last.", _first_stays(name))  # fmt: skip
        yield bug("outliers left in", name, "encode", "outliers left in",
                  "Encodes the base with the outliers in the block.", _left_in(name))  # fmt: skip
    for name in ADDED:
        yield bug("residual scale", name, "decode", "127 times too small",
                  "Divides corrections by 127 once more.", _scaled(name, 1 / 127))  # fmt: skip
        yield bug("residual scale", name, "decode", "127 times too large",
                  "Does not divide corrections by 127.", _scaled(name, 127))  # fmt: skip
    for name in ("Q6_K_HIFI_DYNAMIC", "Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8", "Q2_K_HIFI"):
        yield bug("outlier count", name, "decode", "no outliers beyond the slots",
                  "Takes a count beyond the slots for no outliers.", _count_is_nothing(name))  # fmt: skip
    for name in ("Q3_K_HIFI", "Q4_K_HIFI"):
        yield bug("replace or add", name, "dot", "added outliers",
                  "Adds value times activation and leaves the base's share in.", _dot_adds(name))  # fmt: skip
    yield bug("outlier count", "Q3_K_HIFI", "decode", "padding as count",
              "Reads byte 134 as a count, which is 0, and so ignores all outliers.",
              lambda blocks: _base("Q3_K_HIFI", blocks))  # fmt: skip
    yield bug("outlier count", "Q5_K_HIFI_RES8", "decode", "sixth lost",
              "Loses the sixth correction of six, and the sixth and seventh of seven.", _loses_the_sixth)  # fmt: skip
    yield bug("block stride", "Q6_K_HIFI", "dot", "stride of the base",
              "Walks in steps of 210 bytes and ignores the outliers.", _wrong_stride)  # fmt: skip
