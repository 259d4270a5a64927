"""The command line of `python -m hifi_ref.quantize`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from hifi_ref.commands import cluster, command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import InputError, unusable
from hifi_ref.quantize import budget, card, options, summary
from hifi_ref.quantize.arguments import BARE, PLACE, Recipe, flag_values, path_for, recipes, released
from hifi_ref.quantize.importance import Importance, check_model, read_importance
from hifi_ref.quantize.on_ray import RayPool
from hifi_ref.quantize.options import Options
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source, open_model
from hifi_ref.quantize.write import write

# Flags that name files.
READ = ("imatrix", "tensor-type-file", "protect-super-weights", "text", "errors", "assign")
USAGE = Usage(
    "quantize",
    "(--hifi | --type=NAME | --mixture=NAME | --fork=NAME | --assign=NAME) [flags] SOURCE.gguf OUT.gguf",
    "quantize a GGUF of floats",
    "Writes OUT.gguf with the weight matrices of SOURCE.gguf, whose tensors are F32, F16 or BF16, quantized. SOURCE may"
    " be any shard of a split model, or its folder. Of several NAMEs each gets a file of its own: OUT has {type} in it,"
    " or is a folder. Whatever goes wrong, OUT.gguf is whole or as it was; what was interrupted is kept in"
    " OUT.gguf.part, and the same command goes on with it.",
    {
        FINE: "written", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("quantize", _run, argv)


def _run(arguments: list[str]) -> int:
    values = flag_values()
    paths = command_line.parse(values, arguments, BARE)
    if values.help:
        command_line.show(help_text(USAGE, values, BARE))
        return FINE
    dry = values["dry-run"].value
    if values["include-weights"].value and values["exclude-weights"].value:
        raise UsageError("--include-weights and --exclude-weights do not go together")
    try:
        asked = options.of_flags({name: values[name].value for name in values})
        wanted = recipes(values, asked)
        if len(paths) != 2 and not (dry and len(paths) == 1):
            raise UsageError(f"a source and a target are needed, but {len(paths)} paths are given")
        given, out = paths[0], paths[1] if len(paths) > 1 else f"{PLACE}.gguf"
        importance = _importance(values)
        source = open_model(given)
        check_model(importance, source.shard_of, source.name)
        wanted = wanted or [_fitting(values, source, importance, asked)]
        if len(wanted) > 1 and PLACE not in out and not out.endswith("/") and not os.path.isdir(out):
            raise UsageError(f"{len(wanted)} files cannot all be {out}: put {PLACE} into its name, or give a folder")
        made = _protecting(values, source, importance)
        files = []
        for recipe in wanted:
            make = functools.partial(recipe.make, source, path_for(out, source, recipe.name), importance)
            files += made(make)
        files = [file._replace(plans=[plan.of_build(values.profile) for plan in file.plans]) for file in files]
        if dry:
            plans = "".join(summary.planned(file, values.quiet) for file in files)
            command_line.show(plans + summary.time_expected(files))
            return FINE
        _write(files, source, values, arguments)
    except OSError as error:
        raise unusable(error) from None
    return FINE


def _write(files: list[NewFile], source: Source, values: flags.FlagValues, arguments: list[str]) -> None:
    for file in files:
        if file.lacking:
            name, kind = file.lacking[0]
            raise InputError(f"llama-quantize does not write {kind} without importance, and there is none for {name}")
    command_line.check_writable([values.card], source.paths)
    given = [values[name].value for name in READ]
    command_line.check_writable([values.card, *(file.path for file in files)], given)
    weights = sum({plan.tensor.name: plan.tensor.elements for file in files for plan in file.plans}.values())
    with terminal.progress(weights, "weights") as advance:
        if values.ray:
            with cluster.connected(values.ray) as ray:
                write(files, source, advance, lambda work: RayPool(ray, source, work))
        else:
            write(files, source, advance)
    if values.card:
        command_line.deliver([(values.card, lambda: card.section(files, source, arguments))], str)
    if not values.quiet:
        command_line.show("".join(map(summary.written, files)))


def _importance(values: flags.FlagValues) -> Importance | None:
    filters: list[list[str]] = [values[f"{which}-weights"].value or [] for which in ("include", "exclude")]
    if not values.imatrix:
        if any(filters):
            raise UsageError("--include-weights and --exclude-weights choose from a matrix: --imatrix=FILE")
        return None
    return read_importance(values.imatrix, filters[0], filters[1])


def _protecting(
    values: flags.FlagValues, source: Source, importance: Importance | None
) -> Callable[[Callable[[Mapping[str, str]], list[NewFile]]], list[NewFile]]:
    """What makes the files, and keeps super weights where that is asked for."""
    given = values["protect-super-weights"].value
    if given is None:
        return lambda make: make({})
    if values["prune-layers"].value:
        raise UsageError("--protect-super-weights does not go with --prune-layers")
    from hifi_ref.quantize import protect  # with it come the models, which take long to import

    places = protect.find(source) if given == "-" else protect.read(given, source)
    return lambda make: protect.protected(make, source, importance, places)


def _fitting(values: flags.FlagValues, source: Source, importance: Importance | None, asked: Options) -> Recipe:
    size, bits = values["target-size"].value, values["target-bpw"].value
    if size:
        return released(budget.fitting(source, budget.bytes_of(size), budget.file_size, importance, asked), asked)
    limit = budget.bits_of(str(bits))
    return released(budget.fitting(source, limit, budget.bits_per_weight, importance, asked), asked)
