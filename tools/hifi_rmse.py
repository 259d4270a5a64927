"""`python -m tools.hifi_rmse WEIGHTS.safetensors [--to=FOLDER]`: what the HIFI formats are worth, a table and a plot.

The root of the mean squared error, relative to that of the weights, on gaussian numbers, on numbers with heavy tails
(Student's t, 3 degrees of freedom) and on the two-dimensional tensors of a model. Writes hifi_rmse.svg, prints the
table. Needs hifi-ref[plots].
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

import hifi_ref as hr
from hifi_ref.formats import HIFI
from hifi_ref.formats.hifi.transcode import base_of
from hifi_ref.model_files.safetensors_file import read_safetensors

PLAIN = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
ROW = 1024


def samples(path: Path, size: int) -> dict[str, np.ndarray]:
    """f32[rows, ROW] of each kind of weights."""
    rng = np.random.default_rng(0)
    parts = []
    for entry in read_safetensors(path).values():
        if len(entry.shape) == 2 and entry.dtype == "F32":
            x = np.frombuffer(entry.data[entry.start : entry.stop], "<f4")
            parts.append(x[rng.integers(0, max(1, x.size - 65536)) // 256 * 256 :][: min(65536, x.size // 256 * 256)])
    rng.shuffle(parts)
    real = np.concatenate(parts)
    real = real[: min(size, real.size) // ROW * ROW].reshape(-1, ROW).astype(np.float32)
    shape = real.shape
    return {
        "gaussian": rng.standard_normal(shape).astype(np.float32),
        "heavy tails": rng.standard_t(3, shape).astype(np.float32),
        "real weights": real,
    }


def error(name: str, x: np.ndarray) -> float:
    """Relative root mean square error."""
    lost = hr.decode(name, hr.encode(name, x, lane="numpy")).astype(np.float64) - x
    return float(np.sqrt((lost**2).mean() / (x.astype(np.float64) ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).resolve().parent.parent / "docs")
    parser.add_argument("--size", type=int, default=1 << 20, help="weights of each kind")
    options = parser.parse_args()
    data = samples(options.weights, options.size)
    names = sorted([*PLAIN, *HIFI], key=lambda n: hr.FORMATS[n].layout.bits_per_weight)
    errors = {name: [error(name, x) for x in data.values()] for name in names}

    print("| format | base | bits per weight | " + " | ".join(data) + " |")
    print("|---|---|---|" + "---|" * len(data))
    for name in names:
        base = base_of(name).LAYOUT.name if name in HIFI else None
        cells = []
        for i, value in enumerate(errors[name]):
            ratio = f" ({value / errors[base][i]:.2f})" if base else ""
            cells.append(f"{100 * value:.3f}%{ratio}")
        print(f"| {name} | {base or '-'} | {hr.FORMATS[name].layout.bits_per_weight:.6g} | {' | '.join(cells)} |")

    plt.rcParams["svg.hashsalt"] = "hifi_ref"
    figure, axes = plt.subplots(1, len(data), figsize=(15, 5), sharey=True)
    for i, (kind, axis) in enumerate(zip(data, axes, strict=True)):
        plain = [name for name in PLAIN]
        axis.semilogy([hr.FORMATS[n].layout.bits_per_weight for n in plain], [errors[n][i] for n in plain], "k.-",
                      label="llama.cpp", linewidth=0.8)  # fmt: skip
        for label, mark, own in (
            ("HIFI", "ro", [n for n in HIFI if not n.endswith("_LITE")]),
            ("LITE", "bs", [n for n in HIFI if n.endswith("_LITE")]),
        ):
            axis.semilogy([HIFI[n].layout.bits_per_weight for n in own], [errors[n][i] for n in own], mark, label=label)
        for name in names:
            at = (hr.FORMATS[name].layout.bits_per_weight, errors[name][i])
            axis.annotate(name, at, fontsize=5.5, xytext=(3, 3), textcoords="offset points")
        axis.set_title(kind)
        axis.set_xlabel("bits per weight")
    axes[0].set_ylabel("relative root mean square error")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(options.to / "hifi_rmse.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
