"""golden/grids.json and golden/hifi_ref.h: current, and enough to decode what the release decodes."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from golden import grids, judge
from reference import release

GOLDEN = judge.HERE
GRIDS = json.loads((GOLDEN / "grids.json").read_text())
FORMATS = GRIDS["formats"]
COMPILERS = [c for c in ("cc -std=c11 -xc", "c++ -std=c++11 -xc++") if shutil.which(c.split()[0])]


def test_both_files_are_current() -> None:
    for name, text in grids.texts():
        assert (GOLDEN / name).read_text() == text, f"{name} is not current: python -m golden.grids writes it"


def test_the_schema_describes_it() -> None:
    schema = json.loads((GOLDEN / "schema" / "grids.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(GRIDS)
    assert set(FORMATS) == {path.name.split(".")[0] for path in (GOLDEN / "llama.cpp").iterdir()}


# DECODING, FROM grids.json ALONE

Numbers = dict[str, np.ndarray]


def numbers_of(name: str, block: bytes) -> Numbers:
    """The numbers of one block, by the triples of grids.json."""
    found = {}
    for kind, entries in FORMATS[name]["numbers"].items():
        values = []
        for entry in entries:
            value = at = 0
            for byte, shift, width in zip(*[iter(entry)] * 3, strict=True):
                value |= (block[byte] >> shift & (1 << width) - 1) << at
                at += width
            values.append(value)
        found[kind] = np.array(values, np.int64)
    return found


def half(name: str, block: bytes, field: str) -> float:
    at = next(e["offset"] for e in FORMATS[name]["layout"] if e["field"] == field)
    return float(np.frombuffer(block, "<f2", 1, at)[0])


def signed_grid(name: str, n: Numbers) -> np.ndarray:
    """f64[256]: the rows with their signs."""
    rows = np.array(GRIDS["grids"][name]["table"], float)[n["row"]].reshape(-1, 8)
    signs = n["sign"]
    if name in GRIDS["signs"]["formats"]:
        signs = np.array(GRIDS["signs"]["table"])[signs]
    return (rows * (1 - 2 * (signs[:, None] >> np.arange(8) & 1))).reshape(-1)


def with_grid(divisor: int) -> Callable[[str, bytes, Numbers], np.ndarray]:
    def decode(name: str, block: bytes, n: Numbers) -> np.ndarray:
        return half(name, block, "d") * spread(2 * n["scale"] + 1) / divisor * signed_grid(name, n)

    return decode


def spread(numbers: np.ndarray, size: int = 256) -> np.ndarray:
    return np.repeat(numbers, size // len(numbers)).astype(float)


def with_mins(name: str, block: bytes, n: Numbers) -> np.ndarray:
    d, dmin = half(name, block, "d"), half(name, block, "dmin")
    return d * spread(n["scale"]) * n["code"] - dmin * spread(n["min"])


def shifted(name: str, block: bytes, n: Numbers) -> np.ndarray:
    if name == "IQ1_M":
        words = np.frombuffer(block, "<u2", 4, 48) >> 12
        bits = np.array([sum(int(word) << 4 * i for i, word in enumerate(words))], "<u2")
        d = float(bits.view("<f2")[0])
    else:
        d = half(name, block, "d")
    rows = np.array(GRIDS["grids"]["IQ1_S"]["table"], float)[n["row"]]
    return d * spread(2 * n["scale"] + 1) * (rows.reshape(-1) + spread(1 - 2 * n["shift"]) / 8)


def ternary(name: str, block: bytes, n: Numbers) -> np.ndarray:
    runs = [(n["byte"][:32], 5), (n["byte"][32:], 5), (n["tail"], 4)]
    digits = [(run * 3**k % 256 * 3) >> 8 for run, count in runs for k in range(count)]
    return half(name, block, "d") * (np.concatenate(digits) - 1)


def steps(name: str, n: Numbers) -> np.ndarray:
    return np.array(GRIDS["steps"][FORMATS[name]["steps"]]["table"], float)[n["code"]]


def minus(offset: int) -> Callable[[str, bytes, Numbers], np.ndarray]:
    return lambda name, block, n: half(name, block, "d") * (n["code"] - offset)


def signed(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.uint8).view(np.int8).astype(float)


def super_scaled(scale: int, code: int) -> Callable[[str, bytes, Numbers], np.ndarray]:
    return lambda name, block, n: half(name, block, "d") * (spread(n["scale"]) - scale) * (n["code"] - code)


DECODERS: dict[str, Callable[[str, bytes, Numbers], np.ndarray]] = {
    "Q1_0": lambda name, block, n: half(name, block, "d") * (2 * n["code"] - 1),
    "Q2_0": minus(1), "Q4_0": minus(8), "Q5_0": minus(16), "TQ2_0": minus(1),
    "Q4_1": lambda name, block, n: half(name, block, "d") * n["code"] + half(name, block, "m"),
    "Q5_1": lambda name, block, n: half(name, block, "d") * n["code"] + half(name, block, "m"),
    "Q8_0": lambda name, block, n: half(name, block, "d") * signed(n["code"]),
    "Q8_1": lambda name, block, n: half(name, block, "d") * signed(n["code"]),
    "Q8_K": lambda name, block, n: float(np.frombuffer(block, "<f4", 1)[0]) * signed(n["code"]),
    "Q2_K": with_mins, "Q4_K": with_mins, "Q5_K": with_mins, "Q3_K": super_scaled(32, 4),
    "Q6_K": lambda name, block, n: half(name, block, "d") * spread(signed(n["scale"])) * (n["code"] - 32),
    "IQ1_S": shifted, "IQ1_M": shifted, "IQ2_XXS": with_grid(8), "IQ2_XS": with_grid(8), "IQ2_S": with_grid(8),
    "IQ3_XXS": with_grid(4), "IQ3_S": with_grid(1),
    "IQ4_NL": lambda name, block, n: half(name, block, "d") * steps(name, n),
    "IQ4_XS": lambda name, block, n: half(name, block, "d") * (spread(n["scale"]) - 32) * steps(name, n),
    "TQ1_0": ternary,
    "MXFP4": lambda name, block, n: 2.0 ** (n["scale"] - 128) * steps(name, n),
    "NVFP4": lambda name, block, n: spread(np.array(GRIDS["ue4m3_halves"]["table"])[n["scale"]], 64) * steps(name, n),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name]["numbers"]])
def test_a_decoder_made_from_it_gives_the_release_s_bits(name: str) -> None:
    """Of blocks in which every code, scale, min, sign code and row of a grid occurs."""
    content = judge.load(name, "decode")
    (group,) = [group for group in content["groups"] if group["name"] == "each number at each place"]
    for test in group["tests"]:
        block = bytes.fromhex(test["blocks"])
        numbers = numbers_of(name, block)
        with np.errstate(over="ignore"):
            values = DECODERS[name](name, block, numbers).astype(np.float32)
        # Of numbers alone a zero has no sign.
        assert np.array_equal(values, judge.floats(test["expected"])), test["id"]
        if "trace" in test:
            assert {kind: [values.tolist()] for kind, values in numbers.items()} == test["trace"]


# THE HEADER


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_header_has_the_release_s_sizes_and_the_tables(compiler: str, tmp_path: Path) -> None:
    structs = {f["c_struct"]: f for f in FORMATS.values()}
    tables = [*GRIDS["grids"].values(), GRIDS["signs"], *GRIDS["steps"].values()]
    sizes = "".join(f'printf("%zu ", sizeof({name}));' for name in structs)
    bytes_ = "".join(f"show(hifi_{table['c_name']}, sizeof hifi_{table['c_name']});" for table in tables)
    program = (
        '#include <stdio.h>\n#include "hifi_ref.h"\n'
        'static void show(const void *table, size_t n) { puts(""); while (n--) '
        'printf("%d ", *(const int8_t *)table), table = (const char *)table + 1; }\n'
        f"int main(void) {{ {sizes}{bytes_} return 0; }}\n"
    )
    words = [*compiler.split(), "-Wall", "-Wextra", "-Werror", f"-I{GOLDEN}", "-o", str(tmp_path / "show"), "-"]
    subprocess.run(words, input=program, text=True, check=True)
    said = subprocess.run([str(tmp_path / "show")], capture_output=True, text=True, check=True).stdout.splitlines()
    shown = [np.array(line.split(), np.int64) for line in said]
    library = release.base()
    library.ggml_type_size.restype = library.ggml_blck_size.restype = ctypes.c_size_t
    assert shown[0].tolist() == [library.ggml_type_size(f["type_id"]) for f in structs.values()]
    for f in FORMATS.values():
        assert f["block_size"] == library.ggml_blck_size(f["type_id"])
    for values, table in zip(shown[1:], tables, strict=True):
        assert np.array_equal(values.astype(np.int8), np.array(table["table"]).astype(np.int8).reshape(-1))


def test_a_wrong_size_does_not_compile(tmp_path: Path) -> None:
    text = (GOLDEN / "hifi_ref.h").read_text()
    wrong = tmp_path / "wrong.h"
    wrong.write_text(re.sub(r"uint8_t qs\[144\]|uint8_t qs\[16\]", "uint8_t qs[17]", text, count=1))
    for compiler in COMPILERS:
        words = [*compiler.split(), "-fsyntax-only"]
        assert subprocess.run([*words, str(GOLDEN / "hifi_ref.h")], capture_output=True).returncode == 0
        done = subprocess.run([*words, str(wrong)], capture_output=True, text=True)
        assert done.returncode and "has 18 bytes" in done.stderr
