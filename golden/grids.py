"""`python -m golden.grids [--to=DIR]` writes grids.json and hifi_ref.h: what a port needs besides the vectors.

grids.json has the grids, sign bytes and unequal steps, and of each format its layout, its formula and where each of its
packed numbers lies. hifi_ref.h has the blocks as C structs, and the same tables. Both come from hifi_ref/formats alone,
and from golden/places.py; the tests hold them against the release.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from golden import c_header, packed_words, places
from hifi_ref import exact
from hifi_ref.formats import LLAMA_CPP, Format, codebooks

HERE = Path(__file__).resolve().parent
SCHEMA = "hifi_ref.golden.grids/1"

# What a table is called in C, the formats that use it, and what it holds.
GRIDS = {
    "IQ2_XXS": ("iq2xxs_grid", ["IQ2_XXS"], "256 rows of 8 magnitudes: 8, 25 or 43, in eighths of the scale"),
    "IQ2_XS": ("iq2xs_grid", ["IQ2_XS"], "512 rows of 8 magnitudes: 8, 25 or 43, in eighths of the scale"),
    "IQ2_S": ("iq2s_grid", ["IQ2_S"], "1024 rows of 8 magnitudes: 8, 25 or 43, in eighths of the scale"),
    "IQ3_XXS": ("iq3xxs_grid", ["IQ3_XXS"], "256 rows of 4 magnitudes from 4 to 62, in quarters of the scale"),
    "IQ3_S": ("iq3s_grid", ["IQ3_S"], "512 rows of 4 odd magnitudes from 1 to 15"),
    "IQ1_S": ("iq1s_grid", ["IQ1_S", "IQ1_M"], "2048 rows of 8 steps: -1, 0 or 1, to which the shift is added"),
}  # fmt: skip
STEPS = {
    "IQ4": (codebooks.STEPS_IQ4, "kvalues_iq4nl", ["IQ4_NL", "IQ4_XS"], "the sixteen unequal steps of a 4-bit code"),
    "FP4": (codebooks.STEPS_FP4, "kvalues_mxfp4", ["MXFP4", "NVFP4"],
            "a 4-bit float (a sign bit, 2 exponent bits, 1 mantissa bit), twice its value; code 8, its -0, is +0"),
}  # fmt: skip


def triples(at: np.ndarray) -> list[int]:
    """One number's bit positions, lowest first -> byte, shift, width of each run of them within a byte."""
    found: list[list[int]] = []
    for bit in at.tolist():
        if found and bit % 8 and bit == 8 * found[-1][0] + found[-1][1] + found[-1][2]:
            found[-1][2] += 1
        else:
            found.append([bit // 8, bit % 8, 1])
    return [number for piece in found for number in piece]


def formula(f: Format) -> list[str]:
    """What a weight is: the lines of the format's page."""
    page = str(import_module(f"hifi_ref.formats.{f.name.lower()}").__doc__)
    shown = [part.splitlines() for part in page.split("\n\n") if part.startswith("    ")]
    return [re.sub(r"\s{2,}", "; ", line.strip()) for lines in shown[1:] for line in lines]


def format_of(f: Format) -> dict[str, Any]:
    """One format: its sizes, layout and formula, and how its numbers are packed."""
    numbers = places.bits(f.name)
    table = next((name for name, (_, users, _) in GRIDS.items() if f.name in users), None)
    steps = next((name for name, (_, _, users, _) in STEPS.items() if f.name in users), None)
    return {
        "type_id": f.type_id,
        "block_size": f.block_size,
        "type_size": f.type_size,
        "dot_with": f.dot_with,
        "c_struct": c_header.struct_name(f),
        "layout": [
            {"field": e.name, "type": e.dtype, "count": e.count, "offset": f.layout.offset(e.name), "holds": e.holds}
            for e in f.layout.fields
        ],
        "formula": formula(f),
        "grid": table,
        "steps": steps,
        "packed": packed_words.packed().get(f.name),
        "numbers": {kind: [triples(place) for place in at] for kind, at in numbers.items()},
    }


def content() -> dict[str, Any]:
    """All of grids.json."""
    return {
        "schema": SCHEMA,
        "grids": {
            name: {"c_name": c_name, "formats": users, "holds": holds, "table": codebooks.grid(name).tolist()}
            for name, (c_name, users, holds) in GRIDS.items()
        },
        "signs": {
            "c_name": "ksigns_iq2xs",
            "formats": ["IQ2_XXS", "IQ2_XS", "IQ3_XXS"],
            "holds": "a 7-bit sign code -> a sign byte: bit j is set where weight j of the eight is negative. The "
            "lower seven bits are the code's own, and the top one makes their number even",
            "table": codebooks.complete_signs(np.arange(128, dtype=np.uint8)).tolist(),
        },
        "steps": {
            name: {"c_name": c_name, "formats": users, "holds": holds, "table": table.tolist()}
            for name, (table, c_name, users, holds) in STEPS.items()
        },
        "ue4m3_halves": {
            "formats": ["NVFP4"],
            "holds": "a scale byte -> half of its value: four exponent bits with bias 7, three mantissa bits; 0 and "
            "127 mean 0, and the top bit is ignored",
            "table": exact.widen_ue4m3_half(np.arange(256, dtype=np.uint8)).astype(float).tolist(),
        },
        "places": packed_words.places(),
        "formats": {f.name: format_of(f) for f in LLAMA_CPP.values()},
    }


def text_of(value: dict[str, Any]) -> str:
    """JSON in which a list of numbers takes one line."""
    text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
    return re.sub(r"\[[\s\d.,-]*\]", lambda numbers: " ".join(numbers[0].split()), text)


def texts() -> Iterable[tuple[str, str]]:
    """Both files: name and text."""
    tables = content()
    yield "grids.json", text_of(tables)
    yield "hifi_ref.h", c_header.text_of(LLAMA_CPP.values(), tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=HERE, help="the folder to write to, golden itself by default")
    folder = parser.parse_args().to
    for name, text in texts():
        (folder / name).write_text(text)
