"""`python -m tools.neighbours_table [WEIGHTS.safetensors] [--to=FOLDER]`: what the neighbours' formats are worth.

The root of the mean squared error, relative to that of the weights, of every scheme beside llama.cpp's formats: on
gaussian numbers, on numbers with heavy tails (Student's t, 3 degrees of freedom), both of the size of weights, and on
the matrices of a model where one is given. And MXFP4 by each of its writers. Writes neighbours.svg, and both tables
between their marks in neighbours.md. Needs hifi-ref[plots].
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import ml_dtypes
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

import hifi_ref as hr
from hifi_ref import neighbours as nb
from tools.hifi_rmse import ROW, samples

LLAMA_CPP = ("Q4_0", "IQ4_XS", "MXFP4", "NVFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
# Parameters beside the defaults that are worth a line; schemes that are not named have one line.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "bitsandbytes.nf4": ({}, {"nested": True}),
    "bitsandbytes.fp4": ({},),
    "mx.fp4_e2m1": ({}, {"rule": "even"}, {"rule": "rceil"}, {"writer": "modelopt"}, {"writer": "mlx"}),
    "nvfp4": ({}, {"writer": "torchao"}, {"writer": "torchao-single"}, {"writer": "mlx"}),
    "hyper": (
        {},
        {"block_size": 16, "scale_type": "fp8"},
        {"symmetric": False},
        {"inner": {"bits": 4, "block_size": 16}, "outer": {"bits": 6, "block_size": 16}},
    ),
    "mlx.affine": ({}, {"group_size": 32}, {"bits": 8}),
    "hqq": ({}, {"bits": 3}),
}  # fmt: skip
WRITERS = {
    "OCP; torchao's floor": {"rule": "floor"},
    "torchao's ceil": {"rule": "ceil"},
    "torchao's even": {"rule": "even"},
    "torchao's rceil": {"rule": "rceil"},
    "ModelOpt": {"writer": "modelopt"},
    "MLX": {"writer": "mlx"},
    "microxcaling": {"writer": "microxcaling"},
}


def data(path: Path | None, size: int) -> dict[str, np.ndarray]:
    """f32[rows, ROW] of each kind of weights."""
    if path:
        return samples(path, size)
    rng = np.random.default_rng(0)
    shape = (size // ROW, ROW)
    kinds = {"gaussian": rng.standard_normal(shape), "heavy tails": rng.standard_t(3, shape)}
    return {kind: (x * 0.02).astype(np.float32) for kind, x in kinds.items()}


def error(y: np.ndarray, x: np.ndarray) -> float:
    """Relative root mean square error."""
    lost = y.astype(np.float64) - x
    return float(np.sqrt((lost**2).mean() / (x.astype(np.float64) ** 2).mean()))


def lines(kinds: dict[str, np.ndarray]) -> Iterator[tuple[str, str, float, list[float]]]:
    """System, name, bits per weight and errors of everything that is shown."""
    for name in LLAMA_CPP:
        decoded = [hr.decode(name, hr.encode(name, x, lane="numpy")) for x in kinds.values()]
        bits = hr.FORMATS[name].layout.bits_per_weight
        yield "llama.cpp", name, bits, [error(y, x) for y, x in zip(decoded, kinds.values(), strict=True)]
    for name, scheme in nb.SCHEMES.items():
        for given in VARIANTS.get(name, ({},)):
            if scheme.encode is None:
                continue
            errors = []
            for x in kinds.values():
                stored = nb.encode(name, x, **given)
                errors.append(error(nb.decode(name, stored, shape=x.shape, **given), x))
            said = " ".join([name, *(f"{key}={value}" for key, value in given.items())])
            yield name.partition(".")[0], said, scheme.bits_per_weight(**given), errors


def table(kinds: dict[str, np.ndarray], found: list[tuple[str, str, float, list[float]]]) -> str:
    rows = ["| scheme | bits per weight | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for system, name, bits, errors in sorted(found, key=lambda line: (line[2], line[3])):
        shown = f"**{name}**" if system == "llama.cpp" else name
        rows.append(f"| {shown} | {bits:.5g} | " + " | ".join(f"{100 * e:.3f}%" for e in errors) + " |")
    return "\n".join(rows)


def writers(x: np.ndarray) -> str:
    """MXFP4 of the same weights, in bfloat16 as most are published, by each writer, next to OCP's rule."""
    x = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    rows = ["| writer | scales that differ | weights that differ | error |", "|---|---|---|---|"]
    first = nb.encode("mx.fp4_e2m1", x)
    values = nb.decode("mx.fp4_e2m1", first, shape=x.shape)
    made = {}
    for writer, given in WRITERS.items():
        stored = nb.encode("mx.fp4_e2m1", x, **given)
        made[writer] = stored["scale"], nb.decode("mx.fp4_e2m1", stored, shape=x.shape, **given)
    blocks = hr.encode("MXFP4", x, lane="numpy")
    made["llama.cpp"] = blocks.reshape(len(x), -1, 17)[..., 0], hr.decode("MXFP4", blocks)
    for writer, (scale, y) in made.items():
        shares = (scale != first["scale"]).mean(), (y != values).mean()
        rows.append(f"| {writer} | " + " | ".join(f"{100 * s:.2f}%" for s in shares) + f" | {100 * error(y, x):.3f}% |")
    return "\n".join(rows)


def plot(path: Path, kinds: dict[str, np.ndarray], found: list[tuple[str, str, float, list[float]]]) -> None:
    plt.rcParams["svg.hashsalt"] = "hifi_ref"
    figure, axes = plt.subplots(1, len(kinds), figsize=(6 * len(kinds), 5), sharey=True, squeeze=False)
    systems = list(dict.fromkeys(line[0] for line in found))
    for i, (kind, axis) in enumerate(zip(kinds, axes[0], strict=True)):
        for j, system in enumerate(systems):
            own = sorted((bits, errors[i]) for of, _, bits, errors in found if of == system)
            mark = "k.-" if system == "llama.cpp" else "osD^v<>ph*X"[j % 11]
            axis.semilogy(*zip(*own, strict=True), mark, label=system, linewidth=0.8, markersize=6)
        axis.set_title(kind)
        axis.set_xlabel("bits per weight")
        axis.grid(True, which="both", linewidth=0.3)
    axes[0][0].set_ylabel("relative error")
    axes[0][-1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def replaced(text: str, mark: str, content: str) -> str:
    """The text with new content between <!-- mark --> and <!-- /mark -->."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n\n{end}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--to", type=Path, default=Path(__file__).resolve().parent.parent / "docs")
    parser.add_argument("--size", type=int, default=1 << 20, help="weights of each kind")
    options = parser.parse_args()
    kinds = data(options.weights, options.size)
    found = list(lines(kinds))
    plot(options.to / "neighbours.svg", kinds, found)
    page = options.to / "neighbours.md"
    text = replaced(page.read_text(), "table", table(kinds, found))
    page.write_text(replaced(text, "writers", writers(kinds["gaussian"])))


if __name__ == "__main__":
    main()
