"""A block decoded by hand: from its numbers to its weights, one named step after the other.

This is no copy of the decoders: it begins from the places of golden/grids.json. The tests hold the last step against
`hr.decode` bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.explain import places
from hifi_ref.explain.reading import read
from hifi_ref.formats import FORMATS, codebooks
from hifi_ref.formats.hifi import e4m3

# What is subtracted from a code, and from a sub-block's scale.
CODE_OFFSET = {"Q2_0": 1, "Q4_0": 8, "Q5_0": 16, "Q3_K": 4, "Q6_K": 32, "TQ1_0": 1, "TQ2_0": 1}
SCALE_OFFSET = {"Q3_K": 32, "IQ4_XS": 32}
# Formats whose codes choose among unequal steps.
STEPS = {
    "IQ4_NL": codebooks.STEPS_IQ4, "IQ4_XS": codebooks.STEPS_IQ4,
    "MXFP4": codebooks.STEPS_FP4, "NVFP4": codebooks.STEPS_FP4,
}  # fmt: skip
# Formats whose weights stand in the rows of a grid, and what their magnitudes are divided by.
GRIDS = {"IQ1_S": 1, "IQ1_M": 1, "IQ2_XXS": 8, "IQ2_XS": 8, "IQ2_S": 8, "IQ3_XXS": 4, "IQ3_S": 1}
Named = dict[str, Any]


class Step(NamedTuple):
    """One step: what it is called, how it is made, and its values, of which each serves as many weights in order."""

    name: str
    formula: str
    values: np.ndarray


def steps(name: str, block: np.ndarray) -> list[Step]:
    """u8[type_size] -> the steps to its weights; the last one's values are these, f32[block_size]."""
    with np.errstate(all="ignore"):
        base = places.base_of(name)
        taken = _plain(base, block[: FORMATS[base].type_size])
        return taken if base == name else [*taken[:-1], *_with_outliers(name, block, taken[-1])]


def _plain(name: str, block: np.ndarray) -> list[Step]:
    n = read(name, block)
    if FORMATS[name].block_size == 1:
        return _float(name, n)
    size = FORMATS[name].block_size
    of_scale, codes, mins = scales(name, n), _codes(name, n), _mins(name, n)
    scale, code = _each(of_scale[-1].values, size), _each(codes[-1].values, size).astype(np.float32)
    product = scale * code
    formula = f"{_short(of_scale)} * {_short(codes)}"
    if not mins:
        return [*of_scale, *codes, Step("w", formula, product)]
    sign = "+" if name in ("Q4_1", "Q5_1") else "-"
    minimum = _each(mins[-1].values, size)
    w = product + minimum if sign == "+" else product - minimum
    return [*of_scale, *mins, *codes, Step("w", f"{formula} {sign} {_short(mins)}", w)]


def _short(made: list[Step]) -> str:
    return made[-1].name


def _each(values: np.ndarray, size: int) -> np.ndarray:
    """One value for each weight."""
    return np.repeat(values, size // len(values))


def _float(name: str, n: Named) -> list[Step]:
    if name != "BF16":
        return [Step("w", "the float", n["w"])]
    words = n["w"].astype(np.uint32)
    return [Step("word", "the number kept", words), Step("w", "word * 65536, read as a binary32",
            (words << np.uint32(16)).view(np.float32))]  # fmt: skip


# SCALES


def scales(name: str, n: Named) -> list[Step]:
    """The steps to what a code is multiplied by; of many blocks too, where n has [blocks, count] of each kind."""
    name = places.base_of(name)
    if name == "MXFP4":
        e = n["e"].astype(np.int64)
        return [Step("e", "the byte", e), Step("step", "2^(e - 128)", np.ldexp(np.float32(1), (e - 128).astype(int)))]
    if name == "NVFP4":
        half = np.asarray(exact.widen_ue4m3_half(n["scale"].astype(np.uint8)))
        return [Step("scale[s]", "the byte", n["scale"]), Step("step[s]", "half the UE4M3 float scale[s]", half)]
    made = [Step("d", "the float", n["d"])]
    if "scale" not in n:
        return made
    kept = n["scale"].astype(np.int64)
    made.append(Step("scale[s]", "the number kept", kept))
    if name in GRIDS:
        odd = 2 * kept + 1
        divisor = f" / {GRIDS[name]}" if GRIDS[name] > 1 else ""
        d = n["d"] * odd.astype(np.float32) * np.float32(1 / GRIDS[name])
        return [*made, Step("step[s]", f"d * (2 * scale[s] + 1){divisor}", d)]
    if name in SCALE_OFFSET:
        kept = kept - SCALE_OFFSET[name]
        made.append(Step("signed[s]", f"scale[s] - {SCALE_OFFSET[name]}", kept))
    return [*made, Step("step[s]", f"d * {made[-1].name}", n["d"] * kept.astype(np.float32))]


def _mins(name: str, n: Named) -> list[Step]:
    if name in ("Q4_1", "Q5_1"):
        return [Step("m", "the float", n["m"])]
    if "min" not in n:
        return []
    return [
        Step("dmin", "the float", n["dmin"]),
        Step("min[s]", "the number kept", n["min"]),
        Step("low[s]", "dmin * min[s]", n["dmin"] * n["min"].astype(np.float32)),
    ]


# CODES


def _codes(name: str, n: Named) -> list[Step]:
    """The last step is what a scale is multiplied by: one number for each weight."""
    if name in GRIDS:
        return _grid(name, n)
    if name == "TQ1_0":
        made = [Step("byte", "the byte", n["digits"]), Step("q[j]", "a base-3 digit of the byte", _digits(n["digits"]))]
    else:
        made = [Step("q[j]", "the number kept", n["code"])]
    code = made[-1].values
    if name in STEPS:
        return [*made, Step("STEPS[q[j]]", "the table's step", STEPS[name].astype(np.int64)[code])]
    if name == "Q1_0":
        return [*made, Step("(2 q[j] - 1)", "2 * q[j] - 1", 2 * code - 1)]
    if name in CODE_OFFSET:
        return [*made, Step(f"(q[j] - {CODE_OFFSET[name]})", f"q[j] - {CODE_OFFSET[name]}", code - CODE_OFFSET[name])]
    return made


def _digits(kept: np.ndarray) -> np.ndarray:
    """int[52] -> int[256]: 3^n times the byte, modulo 256, drops n digits; a 3/256 of the rest is the next."""
    made = []
    for first, count, digits in ((0, 32, 5), (32, 16, 5), (48, 4, 4)):
        part = kept[first : first + count]
        made += [(part * 3**n % 256) * 3 >> 8 for n in range(digits)]
    return np.concatenate(made)


def grid_of(name: str) -> str:
    """The format whose grid a format has."""
    return "IQ1_S" if name == "IQ1_M" else name


def _grid(name: str, n: Named) -> list[Step]:
    rows = codebooks.grid(grid_of(name)).astype(np.int64)[n["row"]].reshape(-1)
    made = [Step("row[g]", "the number kept", n["row"]), Step("GRID[row[g]]", "the row's numbers", rows)]
    if "shift" in n:
        delta = np.where(n["shift"] == 1, np.float32(-0.125), np.float32(0.125))
        shift = Step("delta[g]", "-1/8 where the bit is 1, else 1/8", delta)
        return [*made, shift, Step("v[j]", "GRID[row[g]] + delta[g]", rows + _each(delta, rows.size))]
    signs = n["sign"]
    made.append(Step("sign[g]", "the number kept", signs))
    if name in ("IQ2_XXS", "IQ2_XS", "IQ3_XXS"):
        parity = np.array([int(code).bit_count() & 1 for code in signs])
        signs = signs | parity << 7
        made.append(Step("signs[g]", "and an eighth bit that makes the number of ones even", signs))
    minus = (signs[:, None] >> np.arange(8) & 1).reshape(-1)
    return [*made, Step("v[j]", "GRID[row[g]], with minus where its bit is 1", np.where(minus, -rows, rows))]


# OUTLIERS


def _with_outliers(name: str, block: np.ndarray, base: Step) -> list[Step]:
    n = {k.removeprefix("outlier "): v for k, v in read(name, block).items() if k.startswith("outlier ")}
    at, values = n["at"], n["values"]
    slots = min(int(n["count"][0]) & (127 if name == "Q2_K_HIFI" else 255), len(at)) if "count" in n else len(at)
    made = [Step("base[j]", base.formula, base.values), Step("at[k]", "positions of the slots in use", at[:slots])]
    w = base.values.copy()
    if values.dtype == np.float32:
        adds = name == "Q2_K_HIFI" and int(n["count"][0]) >= 128
        made.append(Step("value[k]", "the float", values[:slots]))
        for place, value in zip(at[:slots], values[:slots], strict=True):
            w[place] = w[place] + value if adds else value
        return [*made, Step("w", "base[j] + value[k]" if adds else "value[k] where at[k] = j, else base[j]", w)]
    scale, formula, corrections = _corrections(name, values.astype(np.float32), n["scale"])
    made += [scale, Step("value[k]", "the number kept", values[:slots]), Step("lost[k]", formula, corrections[:slots])]
    for k, (place, lost) in enumerate(zip(at[:slots], corrections[:slots], strict=True)):
        if name != "Q5_K_HIFI_RES8" or place not in at[:k]:
            w[place] = w[place] + lost
    return [*made, Step("w", "base[j] + lost[k] where at[k] = j, else base[j]", w)]


def _corrections(name: str, values: np.ndarray, kept: np.ndarray) -> tuple[Step, str, np.ndarray]:
    """The scale, the formula of a correction, and all corrections."""
    if name == "Q5_K_HIFI_RES8":
        wide = np.asarray(e4m3.widen(kept.astype(np.uint8)))
        unit = wide * (np.float32(1) / np.float32(127))
        return Step("scale", "the e4m3 float of the byte", wide), "value[k] * (scale * (1 / 127))", values * unit
    scale = Step("scale", "the float", kept)
    if name == "Q6_K_HIFI_RES8":
        return scale, "scale * (value[k] / 127)", values / np.float32(127) * kept
    return scale, "scale * value[k]", values * kept
