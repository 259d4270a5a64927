"""The command line of `python -m hifi_ref.sweep`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
from absl import flags

from hifi_ref.commands import command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import InputError, name_of, unusable
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.sweep import report
from hifi_ref.sweep.configurations import FAMILIES, Configuration, configurations
from hifi_ref.sweep.measure import measure
from hifi_ref.sweep.optimum.encoders import Distance, distances
from hifi_ref.sweep.optimum.formats import FORMS
from hifi_ref.sweep.result import Result, result
from hifi_ref.sweep.weights import DRAWN, SUPER_BLOCK, Matrix, open_weights

USAGE = Usage(
    "sweep",
    "SOURCE [flags]",
    "compare every scheme's loss and bits on the same weights",
    "Quantizes the weights of SOURCE in every scheme that hifi_ref knows, with the bits of the programs that define"
    " them, and tells which loses least at how many bits a weight: the frontier, how far ggml's formats lie above it,"
    " and what of Hyper-Quantization's claims holds. The same command gives the same report.",
    {
        FINE: "compared", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
    targets=(
        ("gauss, laplace, student-t:3", "drawn numbers; with @0.02 behind, of that spread in place of 1"),
        ("FILE.gguf", "matrices that are F32, F16 or BF16"),
        ("FILE.safetensors, FOLDER", "matrices that are F64, F32, F16 or BF16, as they lie there"),
        ("FILE.npy", "floats of any shape"),
    ),
)  # fmt: skip
# What --loss may be; `original` is shown as it is meant.
ORDERS = ("rmse", "normalized", "original", "weighted")
SAMPLE = 1 << 20
# The libraries that pictures need.
DRAWN_BY = {"html": "plotly", "svg": "matplotlib"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("sweep", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()

    def text(name: str, what: str) -> None:
        flags.DEFINE_string(name, None, what, flag_values=values)

    text("tensors", "REGEX: only tensors whose names match somewhere")
    sample = f"N: so many weights (default {SAMPLE}); 0 for all that a file has"
    flags.DEFINE_integer("sample", SAMPLE, sample, flag_values=values, lower_bound=0)
    text("imatrix", "FILE: an importance matrix, GGUF or .dat, for --loss=weighted and encoders that take it")
    families = f"NAME,NAME: of {' '.join(FAMILIES)} (default: all)"
    flags.DEFINE_list("families", list(FAMILIES), families, flag_values=values)
    loss = "LOSS: what orders: rmse, normalized (default), original or weighted"
    flags.DEFINE_enum("loss", "normalized", list(ORDERS), loss, flag_values=values)
    optimum = (
        "N: find the least loss that each format's blocks can hold, on N of the weights (16384 take a minute or two)"
    )
    flags.DEFINE_integer("optimum", 0, optimum, flag_values=values, lower_bound=0)
    text("json", "FILE: write all of it for programs; - shows it")
    text("csv", "FILE: write a line a configuration; - shows it")
    text("html", "FILE: write a page with pictures to hover over and to zoom; needs plotly")
    text("svg", "FILE: write the pictures for print; needs matplotlib")
    text("resume", "FILE: keep what is done in FILE until all is, and go on with it")
    return values


def _run(arguments: list[str]) -> int:
    values = _flags()
    sources = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    if len(sources) != 1:
        raise UsageError(f"one source is needed, but {len(sources)} are given")
    _check(values)
    try:
        found = _swept(sources[0], values)
    except OSError as error:
        raise unusable(error) from None
    command_line.deliver(
        [
            (values.json, lambda: command_line.json_text(report.to_json(found))),
            (values.csv, lambda: report.to_csv(found)),
            (values.html, lambda: _drawn("page").to_html(found)),
            (values.svg, lambda: _drawn("drawing").to_svg(found)),
        ],
        lambda: report.to_text(found),
    )
    if values.resume and os.path.exists(values.resume):
        os.unlink(values.resume)
    return FINE


def _check(values: flags.FlagValues) -> None:
    unknown = [name for name in values.families if name not in FAMILIES]
    if unknown or not values.families:
        raise UsageError(f"--families={','.join(values.families)}: there are {' '.join(FAMILIES)}")
    if values.loss == "weighted" and not values.imatrix:
        raise UsageError("--loss=weighted needs importance: --imatrix=FILE")
    try:
        re.compile(values.tensors or "")
    except re.error as error:
        raise UsageError(f"--tensors={values.tensors} is no regular expression: {error}") from None
    for flag, library in DRAWN_BY.items():
        if values[flag].value and find_spec(library) is None:
            raise InputError(f"--{flag} needs {library}: pip install 'hifi-ref[sweep]'")
    command_line.check_writable((values.json, values.csv, values.html, values.svg, values.resume))


def _drawn(name: str) -> ModuleType:
    """A module that loads its library of pictures, which takes a while, only where it is wanted."""
    return import_module(f"hifi_ref.sweep.{name}")


def _swept(source: str, values: flags.FlagValues) -> Result:
    matrices = open_weights(source, values.sample, values.tensors or "", values.imatrix)
    compared = configurations(values.families)
    with terminal.progress(100, "%", "sweep") as advance:
        measured = measure(matrices, compared, values.resume, advance)
    near = _distances(matrices, compared, values.optimum) if values.optimum else []
    name = source if DRAWN.fullmatch(source) else printable(name_of(source.rstrip("/")))
    weights = sum(matrix.size for matrix in matrices)
    found = result(name, weights, len({m.tensor for m in matrices}), values.loss, compared, measured)
    return found._replace(distances=near)


def _distances(matrices: list[Matrix], compared: list[Configuration], wanted: int) -> list[Distance]:
    """On rows of the first matrices."""
    parts: list[np.ndarray] = []
    for matrix in matrices:
        left = wanted - sum(part.size for part in parts)
        if left <= 0:
            break
        x = matrix.read().reshape(-1)
        parts.append(x[: min(-(-left // SUPER_BLOCK) * SUPER_BLOCK, x.size)])
    with terminal.progress(len(FORMS), "formats", "optimum") as advance:
        return distances(np.concatenate(parts).reshape(-1, SUPER_BLOCK), compared, advance)
