"""`python -m tools.hifi_golden DIR [--to=DIR]` writes golden/hifi from what the HIFI fork itself computed.

DIR holds the arrays that tools.hifi_npz reads. Of hifi_ref only the layouts are used. A part of the cases is kept:
families of weights, every row of importance, contexts, every kind of random block.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from golden.vector_file import content_of, index_of, text_of, write
from golden.vectors import hexed, test_of
from hifi_ref.formats import HIFI, Format
from tools.hifi_npz import Case, cases, load

TO = Path(__file__).resolve().parent.parent / "golden"
DIALECT = "hifi"
# Q6_K_HIFI has a dot product in the fork that reads blocks in steps of 210 bytes: nothing to conform to.
NO_DOT = ("Q6_K_HIFI",)
MOST_CONTEXTS = 12
NOTES = {
    "Importance": ("importance", "An importance row is given. Most formats only choose outliers by it."),
    "Context": ("outlier count", "The number of outliers a block, or the model's size, is given as ``context``."),
    "EmptySlot": ("empty slot", "Slots without an outlier point at weight 255, or 0, and set it to 0."),
    "RandomBytes": ("layout", "Every field has random bytes, also values that no encoder writes."),
    "Duplicates": ("duplicate positions", "Positions occur twice: the last, the first, or all of them count."),
    "CountBeyondSlots": (
        "undefined behaviour",
        "The count is larger than the slots, which C reads past. The expected values take it for their number.",
    ),
    "NaN": ("comparison", "Some expected values are NaN. Any NaN is right; 7FC00000 is written for all of them."),
}


def pieces(case: Case, f: Format, i: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """One block of a case, since blocks do not depend on each other; a whole row where they do."""
    row = i % 2
    if f.row_scoped and case.importance is not None:
        return case.x[row], case.importance, case.blocks[row]
    at = slice(256 * (i // 2 % 2), 256 * (i // 2 % 2) + 256)
    block = case.blocks[row].reshape(2, -1)[i // 2 % 2]
    return case.x[row, at], None if case.importance is None else case.importance[at], block


def encode_tests(f: Format, data: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for i, case in enumerate(c for c in cases(data, f.name) if c.defined):
        weights, importance = case.label.split(", importance ")
        if weights.endswith(("_s1", "_s2")):
            continue
        context = tuple(sorted(case.context.items()))
        news = [("weights", weights)] if importance == "none" else [("importance", importance)]
        news += [("context", context, importance == "none")] if context else []
        contexts = sum(new[0] == "context" for new in seen)
        if all(new in seen for new in news) or (context and contexts == MOST_CONTEXTS):
            continue
        seen.update(news)
        x, own, block = pieces(case, f, i)
        flags = [*(["Importance"] if own is not None else []), *(["Context"] if context else [])]
        given = {"context": case.context} if context else {}
        group = f"{'contexts' if context else 'importance' if own is not None else 'weights'}"
        yield (
            group,
            test_of(
                flags, weights=hexed(x), importance=None if own is None else hexed(own), **given, expected=hexed(block)
            ),
        )


def decode_tests(f: Format, data: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    def flagged(values: np.ndarray, *flags: str) -> list[str]:
        return [*flags, *(["NaN"] if np.isnan(values).any() else [])]

    defined = [(i, c) for i, c in enumerate(cases(data, f.name)) if c.defined]
    for i, case in defined[:: max(1, len(defined) // 10)]:
        block = case.blocks[i % 2].reshape(2, -1)[i // 2 % 2]
        values = case.values[i % 2].reshape(2, -1)[i // 2 % 2]
        empty = f.name in ("Q3_K_HIFI", "Q4_K_HIFI") and not block[-18:].any()
        yield (
            "encoded blocks",
            test_of(flagged(values, *(["EmptySlot"] if empty else [])), blocks=hexed(block), expected=hexed(values)),
        )
    if "count" in f.layout.names:
        at, seen = f.layout.offset("count"), set()
        for _, case in defined:
            block, values = case.blocks[0].reshape(2, -1)[0], case.values[0].reshape(2, -1)[0]
            if block[at] not in seen:
                yield "each count", test_of(flagged(values), blocks=hexed(block), expected=hexed(values))
            seen.add(block[at])
    kinds = data.get("rnd_kind", np.zeros(0, int))
    for kind, flag in enumerate(("RandomBytes", "Duplicates", "CountBeyondSlots")):
        for i in np.flatnonzero(kinds == kind)[:5]:
            values = data["rnd_dec_strict"][i]
            yield ("random bytes", "random extensions", "counts beyond the slots")[kind], test_of(
                flagged(values, flag), "undefined-in-c" if kind == 2 else "valid",
                blocks=hexed(data["rnd_bytes"][i]), expected=hexed(values),
            )  # fmt: skip


def dot_tests(f: Format, data: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    defined = [(i, c) for i, c in enumerate(cases(data, f.name)) if c.defined]
    for i, case in defined[:: max(1, len(defined) // 10)]:
        a = i % len(data["q8k"])
        value = case.dots[i % 2, a : a + 1]
        flags = ["NaN"] if np.isnan(value).any() else []
        yield (
            "encoded blocks",
            test_of(flags, w=hexed(case.blocks[i % 2]), a=hexed(data["q8k"][a]), expected=hexed(value)),
        )
    kinds = data.get("rnd_kind", np.zeros(0, int))
    for i in np.flatnonzero(kinds < 2)[::20]:
        value = data["rnd_vd_strict"][i : i + 1]
        flags = [("RandomBytes", "Duplicates")[kinds[i]], *(["NaN"] if np.isnan(value).any() else [])]
        yield (
            "random bytes",
            test_of(flags, w=hexed(data["rnd_bytes"][i]), a=hexed(data["q8k"][0][:292]), expected=hexed(value)),
        )


def reference(f: Format, operation: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Where the expected bits come from."""
    npz, base = f"{f.name}.npz", "libggml-base.so.0.9.7"
    lite = f.name.endswith("_LITE")
    library, sha256 = base, manifest["libs"][base]
    if operation != "encode" or lite:
        how = f"a transcription of the fork's code over {base}" if lite else "built from the same sources with gcc -O0"
        library, sha256 = f"{npz}: {how}", manifest["files"][npz]["sha256"]
    name = f.name.lower()
    symbol = {"encode": f"quantize_{name}", "decode": f"dequantize_row_{name}", "dot": f"ggml_vec_dot_{name}_q8_K"}
    return {
        "repository": manifest["lib_repo"], "release": "LITE" if lite else manifest["lib_commit"],
        "package": f"built from source, {manifest['compiler']}", "symbol": symbol[operation], "profile": "strict",
        "library": library, "sha256": sha256,
    }  # fmt: skip


def document(f: Format, operation: str, data: dict[str, np.ndarray], manifest: dict[str, Any]) -> dict[str, Any]:
    """One file."""
    tests = {"encode": encode_tests, "decode": decode_tests, "dot": dot_tests}[operation](f, data)
    return content_of(f, DIALECT, operation, reference(f, operation, manifest), note, tests)


def note(flag: str) -> dict[str, str]:
    return dict(zip(("bug_type", "description"), NOTES[flag], strict=True))


def generate(folder: Path, to: Path) -> None:
    """Write golden/hifi and its index."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (to / DIALECT).mkdir(parents=True, exist_ok=True)
    files = []
    for f in HIFI.values():
        if f.type_id is None:
            continue
        data = load(folder, f.name)
        for operation in ("decode", "encode", "dot"):
            if getattr(f, operation) is None or (operation == "dot" and f.name in NO_DOT):
                continue
            files.append(write(to, document(f, operation, data, manifest)))
    provenance = {
        "repository": manifest["lib_repo"], "release": manifest["lib_commit"], "package": "built from source",
        "compiler": manifest["compiler"], "flags": manifest["compile_flags"], "libraries": manifest["libs"],
        "lite": "transcribed from a later state of the fork, over the base quantizers of these libraries",
        "arrays": {name: entry["sha256"] for name, entry in manifest["files"].items()},
    }  # fmt: skip
    (to / DIALECT / "index.json").write_text(text_of(index_of(DIALECT, provenance, files)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=TO, help="the folder to write to, golden by default")
    options = parser.parse_args()
    generate(options.folder, options.to)
