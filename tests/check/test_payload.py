"""Blocks against their format's rules: every scale, every illegal byte, and none that an encoder writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifi_ref.check.payload import BYTE_RULES
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.model_files.gguf_file import open_gguf
from reference import release
from tests import sources
from tests.check.helpers import blocks_file, findings_of
from tests.hostile import run_check
from tests.paths import SAMPLE

BLOCKS = 5


SCALES = [(f.name, field) for f in LLAMA_CPP.values() for field in f.layout.fields if field.dtype in ("f16", "f32")]


QUANT_SCALES = [(name, field) for name, field in SCALES if name not in ("F16", "F32")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "what"), [("nan", "NaN"), ("inf", "infinite"), ("-inf", "infinite")])
@pytest.mark.parametrize(("name", "field"), QUANT_SCALES, ids=lambda v: getattr(v, "name", v))
def test_every_scale_of_every_format(tmp_path: Path, name: str, field, bits: str, what: str, order: str) -> None:
    layout = FORMATS[name].layout
    size = 2 if field.dtype == "f16" else 4
    blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
    path = tmp_path / "f.gguf"
    blocks_file(path, name, blocks, order)
    base = findings_of(path)
    at = layout.offset(field.name) + (field.count - 1) * size
    value = np.array(float(bits), f"{order}f{size}").tobytes()
    blocks[2, at : at + size] = blocks[4, at : at + size] = np.frombuffer(value, np.uint8)
    start = blocks_file(path, name, blocks, order) + 2 * layout.type_size + at
    item = f"{field.name}[{field.count - 1}]" if field.count > 1 else field.name
    message = f"tensor t: field {item} of block 2, at byte {start}, is {what} (the first of 2 such blocks)"
    assert [f for f in findings_of(path) if f not in base] == [("P001", message, 2, field.name)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_spread_scale_of_iq1_m(tmp_path: Path, order: str) -> None:
    layout = FORMATS["IQ1_M"].layout
    path = tmp_path / "f.gguf"
    words = np.zeros((BLOCKS, 4), f"{order}u2")
    blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
    at = layout.offset("scales")
    # 0x7C01, the lowest nibble in the first word, and 0x7BFF, the largest finite.
    words[1] = [0x1FFF, 0x0FFF, 0xCFFF, 0x7FFF]
    words[2] = [0xFFFF, 0xFFFF, 0xBFFF, 0x7FFF]
    blocks[:, at : at + 8] = words.view(np.uint8)
    start = blocks_file(path, "IQ1_M", blocks, order)
    message = (
        f"tensor t: field scales[0] of block 1, at byte {start + layout.type_size + at}, "
        "holds a top nibble of a non-finite d"
    )
    assert findings_of(path) == [("P001", message, 1, "scales")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("name", "kind", "bad"),
    [
        ("F32", "f4", np.inf),
        ("F16", "f2", np.nan),
        ("F64", "f8", -np.inf),
        ("BF16", None, 0x7F81),
        ("BF16", None, 0xFF80),
    ],
)
def test_floats(tmp_path: Path, name: str, kind: str | None, bad: float, order: str) -> None:
    kind = order + (kind or "u2")
    values = np.zeros(1000, kind)
    values[7] = values[999] = bad
    path = tmp_path / "f.gguf"
    start = blocks_file(path, name, values.view(np.uint8).reshape(1000, -1), order)
    what = "NaN" if bad in (0x7F81,) or np.isnan(bad) else "infinite"
    message = f"tensor t: weight 7, at byte {start + 7 * values.itemsize}, is {what} (the first of 2 such weights)"
    assert findings_of(path) == [("P002", message, 2, "weight")]
    values[7] = values[999] = np.finfo(kind).max if name != "BF16" else 0x7F7F
    blocks_file(path, name, values.view(np.uint8).reshape(1000, -1), order)
    assert findings_of(path) == []


ILLEGAL = {
    ("Q8_0", "qs"): {"P005": [0x80]},
    ("Q8_1", "qs"): {"P005": [0x80]},
    ("Q8_K", "qs"): {"P005": [0x80]},
    ("Q2_0", "qs"): {"P005": [b for b in range(256) if 3 in (b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6)]},
    ("TQ2_0", "qs"): {"P005": [b for b in range(256) if 3 in (b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6)]},
    ("TQ1_0", "qs"): {"P005": sorted(set(range(256)) - {(v * 256 + 242) // 243 for v in range(243)})},
    ("TQ1_0", "qh"): {"P005": sorted(set(range(256)) - {(v * 256 + 242) // 243 for v in range(0, 243, 3)})},
    ("MXFP4", "e"): {"P003": [0xFF]},
    ("NVFP4", "d"): {"P004": [0x7F, 0xFF], "P005": list(range(0x80, 0xFF))},
}


@pytest.mark.parametrize(("name", "field"), ILLEGAL)
def test_bytes_that_no_encoder_writes(tmp_path: Path, name: str, field: str) -> None:
    layout = FORMATS[name].layout
    count = next(f.count for f in layout.fields if f.name == field)
    path = tmp_path / "f.gguf"
    found: dict[str, list[int]] = {}
    for byte in range(256):
        blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
        at = layout.offset(field) + count - 1
        blocks[3, at] = byte
        start = blocks_file(path, name, blocks)
        for code, message, n, where in findings_of(path):
            found.setdefault(code, []).append(byte)
            item = f"{field}[{count - 1}]" if count > 1 else field
            place = f"tensor t: field {item} of block 3, at byte {start + 3 * layout.type_size + at}, is {byte:#04x}: "
            assert message.startswith(place) and (n, where) == (1, field)
    assert found == ILLEGAL[name, field]
    assert all((rule_name, rule.field) in ILLEGAL for rule_name, rules in BYTE_RULES.items() for rule in rules)


@pytest.mark.parametrize("name", sorted(BYTE_RULES))
def test_the_encoders_never_write_them(tmp_path: Path, name: str) -> None:
    """Random, ternary, constant, huge and tiny weights through the reference encoder.

    Below 2**-125 the reference's MXFP4 exponent wraps around; llama.cpp itself refuses some of these blocks.
    """
    rng = np.random.default_rng(5)
    lowest = 1e-37 if name == "MXFP4" else 1e-45
    rows = [rng.standard_normal(256) * scale for scale in 10.0 ** np.arange(-40, 5)]
    rows += [rng.integers(-1, 2, 256) * 0.7, np.zeros(256), np.full(256, -3.0), np.full(256, 1e-20)]
    rows += [np.where(rng.random(256) < 0.5, lowest, -lowest), np.full(256, 6.1e4), np.full(256, -6.1e4)]
    x = np.array(rows, np.float32)
    x = x[(np.abs(x).max(axis=1) >= lowest) | ~x.any(axis=1)]
    if name == "Q8_1":
        # Its second number is a scaled sum, which overflows f16 before the scale does.
        x = np.clip(x, -2000, 2000)
    blocks = release.encode(name, np.repeat(x, 4, axis=0)).reshape(-1, FORMATS[name].type_size)
    path = tmp_path / "f.gguf"
    blocks_file(path, name, blocks)
    assert findings_of(path) == []


def test_the_converted_sample_is_sound_and_its_scales_are_read_big_endian(tmp_path: Path) -> None:
    path = sources.big_endian(SAMPLE, tmp_path / "big.gguf")
    code, out, _ = run_check(path, "--ignore=L001")
    assert code == 0 and "GGUF v3, big-endian, " in out
    # The release, on x86-64, does not read it.
    assert "the file is big-endian, and llama.cpp reads those of its machine's order" in run_check(path)[1]
    tensor = next(t for t in open_gguf(path).tensors if t.type_name == "Q6_K")
    at = tensor.start + 3 * 210 + 208
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 2] = b"\x7c\x00"
    path.write_bytes(damaged)
    message = f"tensor {tensor.name}: field d of block 3, at byte {at}, is infinite"
    assert findings_of(path) == [("P001", message, 1, "d")]
