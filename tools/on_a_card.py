"""Check every format on the accelerator that is here, bit by bit, and time it: `python -m tools.on_a_card`.

First what hifi_ref.ground tells of the back end. Then encode, without importance and with it, decode, dot and matmul
(through the back end's kernel, where a format has one) run on jax's default back end, over usual and over hard blocks,
and are compared with the NumPy lane; then a few inside a caller's jax.jit. Times are those of usual blocks.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from hifi_ref.commands import command_line
from hifi_ref.commands.command_line import FINE, FOUND, UsageError

USAGE_TEXT = """\
usage: python -m tools.on_a_card [flags]

Compares every operation of every format with the NumPy lane on jax's default back end, and times it.

flags:
  --formats=A,B  formats; default: all
  --repeat=N     how often the hard weights are repeated to one large tensor; default: 16, 3.5 million weights
  --kernels=False  leave out the kernels of hifi_ref.ground's table
  --to=FILE      a Markdown file to put the section into, in the place of an older one of that device
  --dry          on the CPU, with few rows: whether this script runs, before there is a card
  --debug        after a fault of this program, print where it happened
  --help         print this text

exit codes: 0 no bit differs, 1 one does, or something was refused, 2 wrong usage, 3 a fault of this program
"""
INSIDE_JIT = ("F16", "Q8_0", "Q4_0", "Q4_K")


class Size(NamedTuple):
    """Weights in a row, rows of each family of hard weights, how often these are repeated, columns of a product."""

    n: int
    rows: int
    repeat: int
    columns: int


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run("on_a_card", _run, argv)


def _run(arguments: list[str]) -> int:
    values = command_line.flags_of_all()
    flags.DEFINE_list("formats", [], "formats", flag_values=values)
    flags.DEFINE_integer("repeat", 16, "repeats", lower_bound=1, flag_values=values)
    flags.DEFINE_boolean("kernels", True, "the table of kernels", flag_values=values)
    flags.DEFINE_string("to", "", "a Markdown file", flag_values=values)
    flags.DEFINE_boolean("dry", False, "on the CPU, small", flag_values=values)
    rest = command_line.parse(values, arguments)
    if values.help:
        command_line.show(USAGE_TEXT)
        return FINE
    if values.dry:
        os.environ["JAX_PLATFORMS"] = "cpu"
    from hifi_ref.formats import FORMATS

    unknown = rest + [name for name in values.formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"no format is called {unknown[0]}; there are {' '.join(FORMATS)}")
    size = Size(512, 1, 1, 2) if values.dry else Size(4096, 2, values.repeat, 16)
    heading, text, wrong = section(values.formats or list(FORMATS), size, values.kernels)
    if values.to:
        put(Path(values.to), heading, text)
    return FOUND if wrong else FINE


def section(names: list[str], size: Size, kernels: bool) -> tuple[str, str, int]:
    """The section's heading and text, and how many cells of it tell of a difference; printed as it comes."""
    import jax

    from hifi_ref.ground import command as ground

    device = jax.local_devices()[0]
    lines: list[str] = []

    def tell(*more: str) -> None:
        lines.extend(more)
        print("\n".join(more), flush=True)

    tell(f"## {device.device_kind}", "", f"{datetime.date.today()}, jax {jax.__version__}, NumPy {np.__version__}.")
    exactness = ground.judge(device.platform) | ground.subnormals(device.platform)
    tell("", "```", ground.table({device.platform: exactness}).rstrip())
    if kernels:
        tell(ground.kernel_table([device.platform]).rstrip())
    tell("```", "", f"Millions of weights a second (matmul: of products, {size.columns} columns), and how many blocks")
    tell("(dot and matmul: results) differ from the NumPy lane.", "")
    tell(f"| format |{''.join(f' {title} | differ |' for title in CHECKS)}", "|---" * (1 + 2 * len(CHECKS)) + "|")
    wrong = 0
    for name in names:
        cells = [cell for check in CHECKS.values() for cell in measured(check, name, size)]
        wrong += sum(cell not in ("0", "-") for cell in cells[1::2])
        tell(f"| {name} | " + " | ".join(cells) + " |")
    tell("", "Inside a caller's jax.jit, blocks of hard weights, and results of dot products, that differ:")
    found = {name: measured(inside_jit, name, size)[1] for name in INSIDE_JIT if name in names}
    tell(", ".join(f"{name} {differing}" for name, differing in found.items()) + ".")
    wrong += sum(differing != "0" for differing in found.values())
    return lines[0], "\n".join(lines) + "\n", wrong


def measured(check: Callable[[str, Size], Any], name: str, size: Size) -> tuple[str, str]:
    """Speed and number of differences; two dashes where the format lacks the operation, the reason where it fails."""
    try:
        found = check(name, size)
    except Exception as refusal:  # one format's must not end the others
        return "-", " ".join(f"{type(refusal).__name__}: {refusal}".split())[:80].replace("|", "/")
    return ("-", "-") if found is None else (f"{found[0]:.1f}", str(found[1]))


# CHECKS: millions of weights a second, and what differs; None where the format lacks the operation


def encode(name: str, size: Size, weighted: bool = False) -> tuple[float, int] | None:
    import jax.numpy as jnp

    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    f = hr.FORMATS[name]
    if f.encode is None or f.requires_weights and not weighted:
        return None
    importance = hard_inputs.importance("lognormal", 5, size.n) if weighted else None
    hard = hard_inputs.all_weights(1, size.rows, size.n)
    expected = np.tile(hr.encode(name, hard, importance, lane="numpy"), (size.repeat, 1))
    x = jnp.asarray(np.tile(hard, (size.repeat, 1)))
    observed = np.asarray(hr.encode(name, x, importance, lane="jax"))
    differing = int((observed != expected).reshape(-1, f.type_size).any(axis=1).sum())
    # Of the same shape, so that nothing is compiled anew
    usual = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape).astype(np.float32))
    return x.size / seconds(lambda: hr.encode(name, usual, importance, lane="jax")) / 1e6, differing


def encode_with_importance(name: str, size: Size) -> tuple[float, int] | None:
    return encode(name, size, weighted=True)


def decode(name: str, size: Size) -> tuple[float, int]:
    import jax.numpy as jnp

    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    f = hr.FORMATS[name]
    count = 64 * size.rows * size.repeat * size.n // f.block_size
    blocks = hard_inputs.random_blocks(f, np.random.default_rng(2), count)
    expected = hr.decode(name, blocks, lane="numpy")
    on_device = jnp.asarray(blocks)
    same = hard_inputs.same_floats(np.asarray(hr.decode(name, on_device, lane="jax")), expected)
    run = seconds(lambda: hr.decode(name, on_device, lane="jax"))
    return expected.size / run / 1e6, int((~same).reshape(len(blocks), -1).any(axis=1).sum())


def operands(name: str, size: Size) -> tuple[Any, Any, Any]:
    """w, half of its rows with usual scales, the others with any; activations as floats, and as blocks."""
    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    f, rng = hr.FORMATS[name], np.random.default_rng(3)
    rows = 64 * size.rows * size.repeat
    count = rows * size.n // f.block_size // 2
    blocks = np.concatenate([hard_inputs.usual_blocks(f, rng, count), hard_inputs.random_blocks(f, rng, count)])
    x = rng.standard_normal((size.columns, size.n)).astype(np.float32)
    return blocks.reshape(rows, -1), x, hr.encode(f.dot_with, x, lane="numpy")


def dot(name: str, size: Size) -> tuple[float, int] | None:
    import jax.numpy as jnp

    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    if hr.FORMATS[name].dot is None:
        return None
    w, _, a = operands(name, size)
    expected = hr.dot(name, w, a[0], lane="numpy")
    on_device, column = jnp.asarray(w), jnp.asarray(a[0])
    same = hard_inputs.same_floats(np.asarray(hr.dot(name, on_device, column, lane="jax")), expected)
    run = seconds(lambda: hr.dot(name, on_device, column, lane="jax"))
    return len(w) * size.n / run / 1e6, int((~same).sum())


def matmul(name: str, size: Size) -> tuple[float, int] | None:
    import jax.numpy as jnp

    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    if hr.FORMATS[name].dot is None:
        return None
    w, x, a = operands(name, size)
    expected = np.stack([hr.dot(name, w, column, lane="numpy") for column in a])
    on_device, x = jnp.asarray(w), jnp.asarray(x)
    same = hard_inputs.same_floats(np.asarray(hr.matmul(name, on_device, x)), expected)
    run = seconds(lambda: hr.matmul(name, on_device, x))
    return len(w) * size.n * size.columns / run / 1e6, int((~same).sum())


CHECKS = {
    "encode": encode,
    "with importance": encode_with_importance,
    "decode": decode,
    "dot": dot,
    "matmul": matmul,
}


def inside_jit(name: str, size: Size) -> tuple[float, int]:
    """Encoded, and multiplied with activations that a caller's computation holds as constants."""
    import jax
    import jax.numpy as jnp

    import hifi_ref as hr
    from hifi_ref.formats import hard_inputs

    f = hr.FORMATS[name]
    hard = hard_inputs.all_weights(7, 1, size.n)
    w, _, a = operands(name, size._replace(rows=1, repeat=1))
    run = jax.jit(lambda x, w: (hr.encode(name, x), hr.dot(name, w, jnp.asarray(a[0]))))
    blocks, results = (np.asarray(result) for result in run(jnp.asarray(hard), jnp.asarray(w)))
    differing = (blocks != hr.encode(name, hard, lane="numpy")).reshape(-1, f.type_size).any(axis=1).sum()
    same = hard_inputs.same_floats(results, hr.dot(name, w, a[0], lane="numpy"))
    return 0.0, int(differing + (~same).sum())


def seconds(run: Callable[[], object]) -> float:
    """Of the best of three, after one that compiles."""
    import jax

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
    sys.exit(main())
