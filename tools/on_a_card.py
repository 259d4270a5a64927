"""Check every format on the accelerator that is here, bit by bit, and time it: `python -m tools.on_a_card`.

Each of encode, decode and matmul runs on jax's default back end, over usual and over hard blocks, and is compared with
the NumPy lane. With --to=docs/benchmarks.md the section that it prints, with device, date and versions, replaces an
older one of that device. Without an accelerator it does the same on the CPU.

Exit 0: no bit differs. 1: one does, or the back end was refused. 2: usage.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import hifi_ref as hr
from hifi_ref import ground, hard_inputs
from hifi_ref.formats import FORMATS, LLAMA_CPP

_FORMATS = flags.DEFINE_list("formats", [], "Formats; default: all of llama.cpp's.")
_WEIGHTS = flags.DEFINE_integer("weights", 1 << 20, "Weights an operation and format are checked on.")
_TO = flags.DEFINE_string("to", "", "A Markdown file to put the section into; default: standard output only.")

N, COLUMNS = 4096, 16


def main(argv: list[str]) -> None:
    unknown = argv[1:] + [name for name in _FORMATS.value if name not in FORMATS]
    if unknown:
        print(f"no format is called {unknown[0]}; there are {' '.join(FORMATS)}", file=sys.stderr)
        sys.exit(2)
    device = jax.local_devices()[0]
    platform = device.platform
    lines = [f"## {device.device_kind}", "", f"{datetime.date.today()}, jax {jax.__version__}, NumPy {np.__version__}."]
    lines += ["", "```", ground.table({platform: ground.judge(platform)})]
    if flags.FLAGS.kernels:
        lines.append(ground.kernel_table([platform]))
    lines += ["```", "", "Millions of weights a second (matmul: of products, 16 columns), and how many blocks (matmul:"]
    lines += ["results) differ from the NumPy lane.", ""]
    lines += ["| format | encode | differ | decode | differ | matmul | differ |", "|---|---|---|---|---|---|---|"]
    wrong = 0
    for name in _FORMATS.value or LLAMA_CPP:
        cells = [cell for check in (encode, decode, matmul) for cell in measured(check, name)]
        wrong += sum(cell not in ("0", "-") for cell in cells[1::2])
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if _TO.value:
        put(Path(_TO.value), lines[0], text)
    sys.exit(wrong > 0)


def measured(check: Callable, name: str) -> tuple[str, str]:
    """Speed and number of differences; two dashes where the format lacks the operation, the reason where refused."""
    if getattr(FORMATS[name], {"matmul": "dot"}.get(check.__name__, check.__name__)) is None:
        return "-", "-"
    try:
        speed, differing = check(name)
    except RuntimeError as refusal:
        return "-", " ".join(str(refusal).split())[:80]
    return f"{speed:.0f}", str(differing)


def encode(name: str) -> tuple[float, int]:
    rows = max(1, _WEIGHTS.value // N)
    rng = np.random.default_rng(1)
    importance = np.exp(rng.standard_normal(N)).astype(np.float32) if FORMATS[name].requires_weights else None
    differing, run = 0, None
    for family in hard_inputs.FAMILIES:
        x = hard_inputs.weights(family, rng, max(1, rows // len(hard_inputs.FAMILIES)), N)
        expected = hr.encode(name, x, importance, lane="numpy")
        observed = np.asarray(hr.encode(name, jnp.asarray(x), importance, lane="jax"))
        differing += int((observed != expected).reshape(-1, FORMATS[name].type_size).any(axis=1).sum())
    x = jnp.asarray(rng.standard_normal((rows, N)).astype(np.float32))
    run = seconds(lambda: hr.encode(name, x, importance, lane="jax"))
    return x.size / run / 1e6, differing


def decode(name: str) -> tuple[float, int]:
    f = FORMATS[name]
    blocks = hard_inputs.random_blocks(f, np.random.default_rng(2), _WEIGHTS.value // f.block_size)
    expected = hr.decode(name, blocks, lane="numpy")
    on_device = jnp.asarray(blocks)
    same = hard_inputs.same_floats(np.asarray(hr.decode(name, on_device, lane="jax")), expected)
    run = seconds(lambda: hr.decode(name, on_device, lane="jax"))
    return expected.size / run / 1e6, int((~same).reshape(len(blocks), -1).any(axis=1).sum())


def matmul(name: str) -> tuple[float, int]:
    f = FORMATS[name]
    rng = np.random.default_rng(3)
    rows = max(1, _WEIGHTS.value // N)
    blocks = hard_inputs.random_blocks(f, rng, rows * N // f.block_size)
    blocks[: len(blocks) // 2] = hard_inputs.tame_scales(f, blocks[: len(blocks) // 2], rng)
    w = blocks.reshape(rows, -1)
    x = rng.standard_normal((COLUMNS, N)).astype(np.float32)
    a = hr.encode(f.dot_with, x, lane="numpy")
    expected = np.stack([hr.dot(name, w, column, lane="numpy") for column in a])
    w, x = jnp.asarray(w), jnp.asarray(x)
    same = hard_inputs.same_floats(np.asarray(hr.matmul(name, w, x)), expected)
    return rows * N * COLUMNS / seconds(lambda: hr.matmul(name, w, x)) / 1e6, int((~same).sum())


def seconds(run: Callable[[], object]) -> float:
    """Of the best of three, after one that compiles."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times[1:])


def put(file: Path, heading: str, text: str) -> None:
    """The section into the file, in the place of one with the same heading."""
    parts = file.read_text().split("\n## ") if file.exists() else ["# Benchmarks\n"]
    kept = [part for part in parts if f"## {part}".split("\n")[0] != heading]
    file.write_text("\n## ".join([*kept, text.removeprefix("## ")]))


if __name__ == "__main__":
    app.run(main)
