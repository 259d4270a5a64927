"""`python -m tools.hifi_npz DIR [--lane=LANE] [FORMAT ...]`: the formats of the HIFI fork against the fork itself.

DIR holds one FORMAT.npz for each format and manifest.json, which says what every array is. Cases that C leaves
undefined are left out. The bits of Q6_K_HIFI's dot product are those of its fault, which is computed here: Q6_K's
kernel on steps of 210 bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import hifi_ref as hr
from hifi_ref.formats import HIFI

ROW = 512


class Case(NamedTuple):
    """Two rows, what they were encoded with, and what came of it."""

    label: str
    x: np.ndarray
    importance: np.ndarray | None
    context: dict[str, Any]
    blocks: np.ndarray
    values: np.ndarray
    dots: np.ndarray | None
    defined: bool


def load(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as data:
        return dict(data)


def cases(data: dict[str, np.ndarray], name: str) -> Iterator[Case]:
    """Every case of a file, with the fork's hidden state as hifi_ref's explicit context."""
    lite = "case_budget" in data
    undefined = data["input_ub"][data["case_input"]] if lite else data["case_ub"]
    for i, (at, im) in enumerate(zip(data["case_input"], data["case_imat"], strict=True)):
        importance = None if im < 0 else data["imats"][im]
        label = f"{data['input_names'][at]}, importance {'none' if im < 0 else data['imat_names'][im]}"
        yield Case(
            label, data["inputs"][at], importance, _context(data, name, i, importance), data["enc"][i],
            data["dec" if lite else "dec_strict"][i], data["vd_strict"][i] if "vd_strict" in data else None,
            not undefined[i],
        )  # fmt: skip


def _context(data: dict[str, np.ndarray], name: str, i: int, importance: np.ndarray | None) -> dict[str, Any]:
    if "case_budget" in data:
        budget = int(data["case_budget"][i])
        return {"outliers": budget} if budget >= 0 else {}
    count, _, _, _, active, size = data["case_ctx"][i].tolist()
    context: dict[str, Any] = {}
    if name in ("Q3_K_HIFI", "Q4_K_HIFI"):
        # The thread's count only matters with importance.
        if importance is not None and data["case_tls"][i] >= 0:
            context["outliers"] = min(int(data["case_tls"][i]), 8)
        if active == 1:
            context["model_params"] = size
    elif name in ("Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8") and active == 1:
        context = {"outliers": min(max(int(count), 1), 8), "model_params": size}
    return context


def differ(result: np.ndarray, expected: np.ndarray) -> bool:
    """Whether any bit differs; one NaN is as good as another."""
    if result.dtype == np.uint8:
        return not np.array_equal(result, expected)
    expected = np.ascontiguousarray(expected)
    same = (result.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(result) & np.isnan(expected))
    return not same.all()


def expected_dot(name: str, blocks: np.ndarray, a: np.ndarray, lane: str) -> np.ndarray:
    """The dot product as the fork computes it."""
    if name != "Q6_K_HIFI":
        return hr.dot(name, blocks, a, lane=lane)
    n = blocks.shape[-1] // HIFI[name].type_size
    return hr.dot("Q6_K", np.ascontiguousarray(blocks[:, : 210 * n]), a, lane=lane)


def run(folder: Path, name: str, lane: str, contexts: int | None) -> dict[str, str]:
    """Operation -> "D of N differ", with at most so many contexts."""
    seen = []
    data = load(folder, name)
    done: dict[str, list[bool]] = {"encode": [], "decode": [], "dot": []}
    for case in cases(data, name):
        if not case.defined:
            continue
        if case.context and case.context not in seen:
            seen.append(case.context)
        if not case.context or contexts is None or case.context in seen[:contexts]:
            result = hr.encode(name, case.x, case.importance, lane=lane, **case.context)
            done["encode"].append(differ(result, case.blocks))
        done["decode"].append(differ(hr.decode(name, case.blocks, lane=lane), case.values))
        if case.dots is not None:
            for a, expected in zip(data["q8k"], case.dots.T, strict=True):
                done["dot"].append(differ(expected_dot(name, case.blocks, a, lane), expected))
    for i, blocks in enumerate(data.get("rnd_bytes", ())):
        done["decode"].append(differ(hr.decode(name, blocks, lane=lane), data["rnd_dec_strict"][i]))
        if "rnd_vd_strict" in data:
            a = data["q8k"][0][:292]
            done["dot"].append(differ(expected_dot(name, blocks[None], a, lane), data["rnd_vd_strict"][i : i + 1]))
    for count, blocks in list(zip(data.get("ex_counts", ()), data.get("ex_enc", ()), strict=True))[:contexts]:
        # An entry point with a count of its own, which it limits to 2 to 8.
        for at, row in zip(data["ex_inputs"], blocks, strict=True):
            x, outliers = data["inputs"][at].reshape(-1), min(max(int(count), 2), 8)
            done["encode"].append(differ(hr.encode(name, x, lane=lane, outliers=outliers), row))
    return {op: f"{sum(wrong)} of {len(wrong)} differ" if wrong else "-" for op, wrong in done.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("formats", nargs="*", default=[name for name, f in HIFI.items() if f.type_id is not None])
    parser.add_argument("--lane", choices=["numpy", "jax"], default="numpy")
    parser.add_argument("--contexts", type=int, help="look at so many contexts only: the JAX lane compiles each")
    options = parser.parse_args()
    for name in options.formats:
        results = run(options.folder, name, options.lane, options.contexts)
        print(f"{name:18} {options.lane:5} " + "; ".join(f"{op}: {what}" for op, what in results.items()), flush=True)
