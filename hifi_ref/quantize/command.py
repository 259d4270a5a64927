"""The command line of `python -m hifi_ref.quantize`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from absl import flags

from hifi_ref.commands import command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import llama_quantize
from hifi_ref.mixtures.hifi import FORK_FILE_TYPES
from hifi_ref.mixtures.roadmaps import ROADMAP
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.quantize.choices import Choice, a_mix, as_llama_quantize, as_the_fork, one_format
from hifi_ref.quantize.new_file import quantize
from hifi_ref.quantize.plan import Plan

USAGE = Usage(
    "quantize",
    "(--hifi | --type=NAME | --mixture=NAME | --fork=NAME) [flags] SOURCE.gguf OUT.gguf",
    "quantize a GGUF of floats",
    "Writes OUT.gguf with the weight matrices of SOURCE.gguf, whose tensors are F32, F16 or BF16, quantized. Whatever "
    "goes wrong, OUT.gguf is whole or as it was.",
    {FINE: "written", USAGE_ERROR: "wrong usage or a file that cannot be used", FAULT: "a fault of this program"},
)


def _flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all()
    flags.DEFINE_boolean("hifi", False, "a mix of HIFI formats that fits the model's size", flag_values=values)
    mixes = " ".join(ROADMAP)
    one_type = f"NAME: one format for all matrices, such as Q4_K or Q4_K_HIFI, or a mix: {mixes}"
    flags.DEFINE_string("type", None, one_type, flag_values=values)
    mixture = f"NAME: as llama-quantize does for a file type, byte for byte: {' '.join(llama_quantize.file_types())}"
    flags.DEFINE_string("mixture", None, mixture, flag_values=values)
    fork = f"NAME: as the HIFI fork does for a file type: {' '.join(FORK_FILE_TYPES)}"
    flags.DEFINE_string("fork", None, fork, flag_values=values)
    flags.DEFINE_string("imatrix", None, "FILE: an importance matrix, GGUF or .dat", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "do not tell what became of each tensor", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("quantize", _run, argv)


def _run(arguments: list[str]) -> int:
    values = _flag_values()
    paths = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    if bool(values.hifi) + bool(values.type) + bool(values.mixture) + bool(values.fork) != 1:
        raise UsageError("one of --hifi, --type, --mixture and --fork is needed")
    if len(paths) != 2:
        raise UsageError(f"a source and a target are needed, but {len(paths)} paths are given")
    source, out = paths
    choice = _choice(values)
    try:
        if os.path.exists(out) and os.path.samefile(source, out):
            raise InputError(f"{out} is the source itself")
        imatrix = read_imatrix(values.imatrix) if values.imatrix else None
        with terminal.progress(sum(t.elements for t in open_gguf(source).tensors), "weights") as advance:
            plans = quantize(source, out, choice, imatrix, values.imatrix, advance)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    if not values.quiet:
        command_line.show(f"{''.join(map(_line, plans))}wrote {out}: {os.path.getsize(out)} bytes\n")
    return FINE


def _line(plan: Plan) -> str:
    context = "".join(f", {key} {value:g}" for key, value in plan.context.items())
    return f"{plan.tensor.name}: {plan.tensor.type_name} -> {plan.format}{context}\n"


def _choice(values: flags.FlagValues) -> Choice:
    """Raises UsageError for a name that nothing has."""
    if values.fork:
        if values.fork not in FORK_FILE_TYPES:
            known = " ".join(FORK_FILE_TYPES)
            raise UsageError(f"the fork has no file type {values.fork!r}; there are {known}")
        return as_the_fork(values.fork)
    if values.hifi:
        return a_mix(None)
    if values.mixture:
        if values.mixture not in llama_quantize.file_types():
            known = " ".join(llama_quantize.file_types())
            raise UsageError(f"llama-quantize has no file type {values.mixture!r}; there are {known}")
        return as_llama_quantize(values.mixture)
    if values.type in FORMATS and FORMATS[values.type].encode is not None and values.type not in ("Q8_1", "Q8_K"):
        return one_format(values.type)
    if values.type in ROADMAP:
        return a_mix(values.type)
    if values.type in llama_quantize.file_types():
        return as_llama_quantize(values.type)
    raise UsageError(f"no format is called {values.type!r}, and no mix; there are {' '.join(FORMATS)}")
