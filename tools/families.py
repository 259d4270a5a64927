"""`python -m tools.families [--to=docs]`: llama.cpp's formats side by side: table and picture of docs/families.md.

The error is the root of the mean squared error, relative to that of the weights: of gaussian weights, encoded without
importance, and with an importance of 1 each; of the same with unequal importance, by which errors then count; and of
weights with heavy tails (Student's t, 5 degrees of freedom), importance 1. Prints the table; with --to also writes
families.svg there, for which it needs hifi-ref[plots].
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import hifi_ref as hr
from hifi_ref.formats import LLAMA_CPP, Format

# Of each family its formats, and how its points are drawn.
FAMILIES = {
    "floats": (("F32", "F16", "BF16"), ""),
    "one scale": (("Q4_0", "Q5_0", "Q8_0"), "o"),
    "scale and min": (("Q4_1", "Q5_1"), "s"),
    "super-blocks": (("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"), "D"),
    "grids": (("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), "^"),
    "unequal steps": (("IQ4_NL", "IQ4_XS"), "v"),
    "small floats": (("MXFP4", "NVFP4"), "X"),
    "few levels": (("Q1_0", "Q2_0", "TQ1_0", "TQ2_0"), "*"),
    "activations": (("Q8_1", "Q8_K"), ""),
}
# In the picture, where another label is in the way.
LABELS_LEFT = {"TQ1_0", "IQ1_S", "IQ2_S", "IQ3_S", "IQ4_XS", "Q4_K"}
HEAD = ("format", "family", "bytes for weights", "bits per weight", "plain", "importance", "unequal", "heavy tails")


def samples(rows: int = 64) -> dict[str, tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """Of each column the weights, float32[rows, 1024], their importance, and how much each error counts."""
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal((rows, 1024)).astype(np.float32)
    heavy = rng.standard_t(5, (rows, 1024)).astype(np.float32)
    unequal, ones = rng.lognormal(0, 1, 1024).astype(np.float32), np.ones(1024, np.float32)
    return {
        "plain": (gaussian, None, ones),
        "importance": (gaussian, ones, ones),
        "unequal": (gaussian, unequal, unequal),
        "heavy tails": (heavy, ones, ones),
    }


def error(f: Format, x: np.ndarray, importance: np.ndarray | None, counts: np.ndarray) -> float:
    """Relative root mean square error; NaN where the encoder cannot do without importance."""
    if importance is None and f.requires_weights:
        return float("nan")
    lost = hr.decode(f.name, hr.encode(f.name, x, importance, lane="numpy"), lane="numpy").astype(np.float64) - x
    return float(np.sqrt((counts * lost**2).sum() / (counts * x.astype(np.float64) ** 2).sum()))


def errors_of(names: Iterable[str]) -> dict[str, list[float]]:
    """The errors of each format, column by column."""
    kinds = samples().values()
    return {name: [error(LLAMA_CPP[name], *kind) for kind in kinds] for name in names}


def row(name: str, errors: list[float]) -> str:
    """A line of the table."""
    f = LLAMA_CPP[name]
    family = next(family for family, (names, _) in FAMILIES.items() if name in names)
    sizes = (f"{f.type_size} for {f.block_size}", f"{f.layout.bits_per_weight:.6g}")
    shares = ("-" if np.isnan(value) else f"{100 * value:.3g}%" for value in errors)
    return f"| {' | '.join((name, family, *sizes, *shares))} |"


def draw(errors: dict[str, list[float]], path: Path) -> None:
    """Bits per weight and error, a point a format, for gaussian weights with an importance of 1."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "hifi_ref"
    figure, axis = plt.subplots(figsize=(9, 7))
    for family, (names, mark) in FAMILIES.items():
        if mark:
            points = [(LLAMA_CPP[name].layout.bits_per_weight, errors[name][1]) for name in names]
            axis.semilogy(*zip(*points, strict=True), mark, label=family)
            for name, point in zip(names, points, strict=True):
                side = {"xytext": (-6, -3), "ha": "right"} if name in LABELS_LEFT else {"xytext": (6, -2)}
                axis.annotate(name, point, fontsize=7, textcoords="offset points", **side)
    axis.set_xlabel("bits per weight")
    axis.set_ylabel("relative root mean square error")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    errors = errors_of(sorted(LLAMA_CPP, key=lambda name: LLAMA_CPP[name].layout.bits_per_weight))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name, found in errors.items():
        print(row(name, found))
    if options.to:
        draw(errors, options.to / "families.svg")


if __name__ == "__main__":
    main()
