"""`python -m golden.generate [--to=DIR]` writes every golden vector, byte for byte the same each time.

The expected bits come from the pinned release of llama.cpp alone (tests.native); of hifi_ref only the layouts are used.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref.formats import FORMATS, Format
from tests import inputs, native

HERE = Path(__file__).resolve().parent
DIALECT = "llama.cpp"
SCHEMA = "hifi_ref.golden/1"

# flag: (type of bug, what goes wrong)
NOTES = {
    "OneBit": ("layout", "A bit of a plain block is flipped: fields that are read elsewhere or in another order show."),
    "ScaleClass": ("conversion", "The scale is a zero, subnormal, normal, largest, infinite or NaN binary16."),
    "NaN": ("comparison", "Some expected values are NaN. Any NaN is right; 7FC00000 is written for all of them."),
    "RandomBytes": ("layout", "Every field has random bytes, also values that no encoder writes."),
    "NearTie": ("rounding", "Weights lie close to the middle between codes: half-up, half-even and half-away differ."),
    "EqualMagnitudes": ("search", "Several weights share the largest magnitude; the first of them decides the sign."),
    "SignedZero": ("search", "Weights are +0 and -0."),
    "Subnormal": ("flush to zero", "Weights are subnormal numbers, which some processors and compilers flush to zero."),
    "Overflow": ("overflow", "Weights are close to the largest binary32, or the scale exceeds the largest binary16."),
    "Spike": ("search", "One weight is far larger than the rest."),
    "Importance": ("importance", "An importance row is given; encoders without a use for it must ignore it."),
    "ZeroImportance": ("importance", "Some weights have no importance at all."),
    "Saturating": ("integer overflow", "Codes have their largest magnitudes, so that 16-bit partial sums overflow."),
    "Cancellation": ("order of additions", "Large terms cancel, and the rest depends on the order of additions."),
    "LongRow": ("order of additions", "Many blocks a row: the order of additions and fused multiply-adds show."),
    "InfiniteInverse": (
        "undefined behaviour",
        "The inverse of the scale overflows, and C converts products that are not finite to integers. The expected "
        "bytes are those of the x86-64 release.",
    ),
}
HALVES = {
    "zero": 0x0000, "negative zero": 0x8000, "smallest subnormal": 0x0001, "largest subnormal": 0x03FF,
    "smallest normal": 0x0400, "one": 0x3C00, "minus one": 0xBC00, "largest": 0x7BFF, "infinity": 0x7C00, "NaN": 0x7E00,
}  # fmt: skip
# The largest magnitude, or range, below which C's arithmetic without importance leaves what the language defines.
UNDEFINED_BELOW = {
    "Q4_0": 8, "Q5_0": 16, "Q8_0": 127, "Q8_1": 127, "Q8_K": 127, "Q4_1": 15, "Q5_1": 31, "Q2_0": 1.01, "TQ1_0": 1.01,
    "TQ2_0": 1.01, "MXFP4": 8,
}  # fmt: skip


@functools.cache
def digest_of(library: str) -> str:
    return hashlib.sha256((native.library_dir() / library).read_bytes()).hexdigest()


def reference(f: Format, operation: str) -> dict[str, str]:
    """Where the expected bits come from."""
    c_name = f.name[:-1].lower() + "K" if f.name.endswith("_K") else f.name.lower()
    symbol = {
        "decode": {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row", "F32": "memcpy"}.get(
            f.name, f"dequantize_row_{'q8_0' if f.name == 'Q8_1' else c_name}"
        ),
        "encode": f"quantize_row_{c_name}_ref" if f.name in ("Q8_1", "Q8_K") else "ggml_quantize_chunk",
        "dot": f"ggml_vec_dot_{c_name}"
        if f.name in ("F32", "F16", "BF16")
        else f"ggml_vec_dot_{c_name}_{'q8_K' if f.dot_with == 'Q8_K' else str(f.dot_with).lower()}_generic",
    }[operation]
    library = "libggml-cpu-x64.so" if operation == "dot" else "libggml-base.so"
    return {
        "repository": "ggml-org/llama.cpp", "release": "v0.5.0", "package": native.PACKAGE, "symbol": symbol,
        "profile": "strict", "library": library, "sha256": digest_of(library),
    }  # fmt: skip


def hexed(values: np.ndarray) -> str:
    """Bytes in hexadecimal, numbers little-endian, one pattern for all NaN."""
    values = np.ascontiguousarray(values)
    if values.dtype == np.float32:
        values = np.where(np.isnan(values), np.float32(np.nan), values)
        values = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))
        return values.astype("<u4").tobytes().hex()
    return values.tobytes().hex()


def test_of(flags: list[str], result: str = "valid", **values: Any) -> dict[str, Any]:
    """One test; its id is a hash of what it says."""
    said = json.dumps(values, sort_keys=True).encode()
    return {"id": hashlib.sha256(said).hexdigest()[:16], "flags": flags, **values, "result": result}


# DECODE


def plain_block(f: Format) -> np.ndarray:
    """Scales of 1, every other byte 0x11."""
    block = np.full(f.type_size, 0x11, np.uint8)
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            at = f.layout.offset(field.name)
            one = np.ones(field.count, f"<f{field.size // field.count}")
            block[at : at + field.size] = one.view(np.uint8)
    return block


def decode_tests(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, dict[str, Any]]]:
    def test(group: str, block: np.ndarray, *flags: str) -> tuple[str, dict[str, Any]]:
        values = native.decode(f.name, block)
        told = [*flags, *(["NaN"] if np.isnan(values).any() else [])]
        return group, test_of(told, blocks=hexed(block), expected=hexed(values))

    for field in f.layout.fields:
        at = f.layout.offset(field.name)
        few = field.size <= 8 or f.block_size <= 64
        for byte in range(field.size) if few else sorted({0, 1, field.size // 2, field.size - 1}):
            block = plain_block(f)
            block[at + byte] ^= 1 << (3 * byte + 1) % 8
            yield test(f"one bit of {field.name}", block, "OneBit")
    for field in f.layout.fields:
        if field.dtype == "f16":
            at = f.layout.offset(field.name)
            for half in HALVES.values():
                block = inputs.tame_scales(f, inputs.random_blocks(f, rng, 1), rng)
                block[0, at : at + 2] = np.array([half], "<u2").view(np.uint8)
                yield test(f"each class of {field.name}", block, "ScaleClass")
    for field in f.layout.fields:
        if field.dtype == "u8" and field.count <= 4 and f.name in ("MXFP4", "NVFP4"):
            for value in (0, 1, 2, 7, 8, 0x3F, 0x7E, 0x7F, 0x80, 0xFE, 0xFF):
                block = inputs.random_blocks(f, rng, 1)
                block[0, f.layout.offset(field.name)] = value
                yield test(f"each class of {field.name}", block, "ScaleClass")
    # With its complement every bit is seen both ways.
    for _ in range(2):
        block = inputs.random_blocks(f, rng, 1)
        yield test("random bytes", block, "RandomBytes")
        yield test("random bytes", ~block, "RandomBytes")


# ENCODE


def encode_tests(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, dict[str, Any]]]:
    n = max(f.block_size, 32)

    def test(group: str, x: np.ndarray, importance: np.ndarray | None, *flags: str) -> Iterator[tuple[str, Any]]:
        blocks, accepted = native.encode_or_refuse(f.name, x.reshape(1, -1), importance)
        if not accepted.all():
            return
        least = UNDEFINED_BELOW.get(f.name, 0) * 2.0**-128
        largest = float(np.ptp(x.astype(np.float64)) if f.name in ("Q4_1", "Q5_1") else abs(x).max())
        undefined = 0 < largest < least or (f.name in ("Q4_1", "Q5_1") and largest > 2.0**128)
        yield group, test_of(
            [*flags, *(["InfiniteInverse"] if undefined else [])], "undefined-in-c" if undefined else "valid",
            weights=hexed(x), importance=None if importance is None else hexed(importance), expected=hexed(blocks),
        )  # fmt: skip

    cases = {
        "random weights": ("gauss", []), "near ties": ("near ties", ["NearTie"]),
        "equal magnitudes": ("one magnitude", ["EqualMagnitudes"]), "all equal": ("constant", ["EqualMagnitudes"]),
        "signed zeros": ("signed zeros", ["SignedZero"]), "subnormal weights": ("subnormal", ["Subnormal"]),
        "huge weights": ("overflow", ["Overflow"]), "scale beyond binary16": ("gauss 1e+12", ["Overflow"]),
        "one spike": ("spike", ["Spike"]),
    }  # fmt: skip
    ones = np.ones(n, np.float32) if f.requires_weights else None
    for group, (family, flags) in cases.items():
        yield from test(group, inputs.weights(family, rng, 1, n)[0], ones, *flags)
    for kind, flags in (("lognormal", ["Importance"]), ("sparse", ["Importance", "ZeroImportance"])):
        x = inputs.weights("gauss", rng, 1, n)[0]
        yield from test(f"{kind} importance", x, inputs.importance(kind, int(rng.integers(1 << 30)), n), *flags)


# DOT


def dot_tests(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, dict[str, Any]]]:
    g = inputs.partner_of(f)
    unit = max(f.block_size, g.block_size)

    def tame(kind: Format, n: int) -> np.ndarray:
        count = n // kind.block_size
        return inputs.tame_scales(kind, inputs.random_blocks(kind, rng, count), rng)

    def test(group: str, w: np.ndarray, a: np.ndarray, *flags: str) -> tuple[str, dict[str, Any]]:
        value = native.dot(f.name, w.reshape(1, -1), a.reshape(-1))
        told = [*flags, *(["NaN"] if np.isnan(value).any() else [])]
        return group, test_of(told, w=hexed(w), a=hexed(a), expected=hexed(value))

    n = unit if unit > 1 else 32
    for _ in range(3):
        a = native.encode(g.name, inputs.weights("gauss", rng, 1, n))
        yield test("one block", tame(f, n), a)
    for byte in (0x00, 0x7F, 0xFF):
        w = inputs.tame_scales(f, np.full((n // f.block_size, f.type_size), byte, np.uint8), rng)
        a = inputs.tame_scales(g, np.full((n // g.block_size, g.type_size), 0x7F, np.uint8), rng)
        yield test("largest codes", w, a, "Saturating")
    w, a = tame(f, n), native.encode(g.name, inputs.weights("gauss", rng, 1, n))
    b = native.encode(g.name, -inputs.weights("gauss", rng, 1, n))
    opposite = native.encode(g.name, -native.decode(g.name, a).reshape(1, -1))
    for order in ([a, b, opposite], [b, a, opposite]):
        parts = [part.reshape(-1) for part in order]
        yield test("cancellation", np.concatenate([w] * 3), np.concatenate(parts), "Cancellation")
    n = 8 * unit if unit > 1 else 256
    for family in ("gauss", "mixed scales"):
        a = native.encode(g.name, inputs.weights(family, rng, 1, n))
        yield test("long rows", tame(f, n), a, "LongRow")
    if f.name != "F32":
        n = unit if unit > 1 else 32
        yield test("any scale", inputs.random_blocks(f, rng, n // f.block_size), tame(g, n), "RandomBytes")


# FILES


def document(f: Format, operation: str) -> dict[str, Any]:
    """One file: the header, then groups of tests in the order in which they come."""
    rng = np.random.default_rng([f.type_id, len(operation)])
    tests = {"decode": decode_tests, "encode": encode_tests, "dot": dot_tests}[operation](f, rng)
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, test in tests:
        groups.setdefault(name, []).append(test)
    flags = sorted({flag for group in groups.values() for test in group for flag in test["flags"]})
    return {
        "schema": SCHEMA,
        "format": f.name,
        "dialect": DIALECT,
        "operation": operation,
        "type_id": f.type_id,
        "block_size": f.block_size,
        "type_size": f.type_size,
        "dot_with": f.dot_with,
        "layout": [
            {"field": field.name, "type": field.dtype, "count": field.count, "offset": f.layout.offset(field.name),
             "bytes": field.size, "holds": field.holds}
            for field in f.layout.fields
        ],
        "reference": reference(f, operation),
        "notes": {flag: dict(zip(("bug_type", "description"), NOTES[flag], strict=True)) for flag in flags},
        "groups": [{"name": name, "tests": tests} for name, tests in groups.items()],
    }  # fmt: skip


def coverage(f: Format, decode: dict[str, Any]) -> dict[str, Any]:
    """What the decode vectors of a format reach: bits that are 0 in one block and 1 in another, and byte values."""
    tests = [test for group in decode["groups"] for test in group["tests"]]
    blocks = np.array([list(bytes.fromhex(test["blocks"])) for test in tests], np.uint8)
    fields = {}
    for field in f.layout.fields:
        at = f.layout.offset(field.name)
        part = blocks[:, at : at + field.size]
        bits = np.unpackbits(part, axis=1)
        both = int((bits.any(axis=0) & ~bits.all(axis=0)).sum())
        fields[field.name] = {"bits": 8 * field.size, "bits_both_ways": both, "byte_values": len(np.unique(part))}
        if field.dtype == "f16":
            drawn = {int(h) for h in part.copy().view("<u2").reshape(-1)}
            fields[field.name]["classes"] = [name for name, half in HALVES.items() if half in drawn]
    return fields


def text_of(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def generate(to: Path) -> None:
    """Write all vectors and the index below a folder."""
    index: dict[str, Any] = {"schema": "hifi_ref.golden.index/1", "dialects": [DIALECT], "files": [], "coverage": {}}
    (to / DIALECT).mkdir(parents=True, exist_ok=True)
    for f in FORMATS.values():
        for operation in ("decode", "encode", "dot"):
            if getattr(f, operation) is None:
                continue
            content = document(f, operation)
            if operation == "decode":
                index["coverage"][f.name] = coverage(f, content)
            text = text_of(content)
            path = f"{DIALECT}/{f.name}.{operation}.json"
            (to / path).write_text(text)
            count = sum(len(group["tests"]) for group in content["groups"])
            index["files"].append(
                {"path": path, "format": f.name, "operation": operation, "tests": count,
                 "sha256": hashlib.sha256(text.encode()).hexdigest()}
            )  # fmt: skip
    (to / "index.json").write_text(text_of(index))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=HERE, help="the folder to write to, golden itself by default")
    generate(parser.parse_args().to)
