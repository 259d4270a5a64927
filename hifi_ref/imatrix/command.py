"""The command line of `python -m hifi_ref.imatrix`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from hifi_ref.commands import command_line, provenance, terminal, texts
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.imatrix import collect, compare, mixing
from hifi_ref.imatrix.compare import Comparison
from hifi_ref.model_files.files import InputError, name_of, replacing, unusable
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.imatrix import Sums, read_sums
from hifi_ref.model_files.imatrix_write import FORMATS, merged, to_dat, to_gguf
from hifi_ref.models import setting
from hifi_ref.models.run import LEAST_ROWS

USAGE = Usage(
    "imatrix",
    "(MODEL.gguf (--text=FILE | --mix=FILE:SHARE,...) | --merge=A,B,...) --out=FILE [flags], or --compare=A,B",
    "collect how much each column of a model's matrices matters, for quantize",
    "Collects importance over a text, or over several by shares, as llama-imatrix does, from inputs that have the bits"
    " of llama.cpp v0.5.0 (x64, flash attention off, K/V cache F32, one sequence a batch), or are computed fast. What"
    " is done is kept, chunk by chunk, and the same command goes on with it. --merge adds matrices, --compare tells by"
    " how much two agree.",
    {
        FINE: "written, or compared", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip
SCHEMA = "hifi_ref.imatrix/1"
CONTEXT = 512


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("imatrix", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()
    flags.DEFINE_string("text", None, "FILE: the text", flag_values=values)
    mix = "FILE:SHARE,...: several texts; chunks are taken from the beginning of each by its share, a whole number"
    flags.DEFINE_list("mix", None, mix, flag_values=values)
    flags.DEFINE_list("merge", None, "A,B,...: add these matrices", flag_values=values)
    flags.DEFINE_list("compare", None, "A,B: tell by how much two matrices agree", flag_values=values)
    flags.DEFINE_string("out", None, "FILE: the matrix", flag_values=values)
    written = "FORMAT: gguf, or dat, the older form (default gguf)"
    flags.DEFINE_enum("format", "gguf", FORMATS, written, flag_values=values)
    context = f"N: ids a chunk (default {CONTEXT}, or what merged files say)"
    flags.DEFINE_integer("context", None, context, flag_values=values, lower_bound=LEAST_ROWS)
    texts.define_chunks(values)
    texts.define_mode(values)
    flags.DEFINE_string("json", None, "FILE: write a report for programs; - shows it", flag_values=values)
    resume = "FILE: keep what is done in FILE (default: MODEL.gguf.imatrix), until all is"
    flags.DEFINE_string("resume", None, resume, flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = _flags()
    paths = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    _check(values, paths)
    try:
        if values.compare:
            return _compare(values)
        command_line.check_writable((values.json, values.out))
        return _merge(values) if values.merge else _collect(values, paths[0])
    except OSError as error:
        raise unusable(error) from None


def _check(values: flags.FlagValues, paths: list[str]) -> None:
    given = [name for name in ("text", "mix", "merge", "compare") if values[name].value is not None]
    if len(given) != 1:
        raise UsageError("one of --text, --mix, --merge and --compare is needed")
    of_model = given[0] in ("text", "mix")
    if len(paths) != of_model:
        wanted = "one model is" if of_model else "no model is"
        raise UsageError(f"{wanted} needed with --{given[0]}, but {len(paths)} paths are given")
    if given[0] == "compare" and len(values.compare) != 2:
        raise UsageError(f"--compare takes two matrices, not {len(values.compare)}")
    if given[0] != "compare" and not values.out:
        raise UsageError("--out is needed")


# COLLECT


def _collect(values: flags.FlagValues, model: str) -> int:
    parts = mixing.parts_of(values.mix) if values.mix is not None else [mixing.Part(values.text, 1)]
    state = values.resume or f"{model}.imatrix"
    command_line.check_writable((state,))
    chunks = collect.chunks_of(model, parts, values.context or CONTEXT, values.chunks)
    datasets = tuple(part.path for part in parts)
    sums = collect.collected(model, list(itertools.chain(*chunks)), datasets, values.mode, state)
    shares = [
        {"text": printable(name_of(part.path)), "share": part.share, "chunks": len(of_it)}
        for part, of_it in zip(parts, chunks, strict=True)
    ]
    how = f"{provenance.RELEASE} {setting(values.mode)}"
    about = {"model": printable(name_of(model)), "mode": values.mode, "setting": setting(values.mode)}
    _deliver(values, sums, about | {"texts": shares}, how)
    if os.path.exists(state):
        os.unlink(state)
    return FINE


# MERGE


def _merge(values: flags.FlagValues) -> int:
    parts = [(printable(path), read_sums(path)) for path in values.merge]
    sizes = {part.chunk_size for _, part in parts if part.chunk_size}
    if len(sizes) > 1 and not values.context:
        raise InputError(f"the matrices have chunks of {', '.join(map(str, sorted(sizes)))} ids: --context is needed")
    sums = merged(parts, values.context or next(iter(sizes), CONTEXT))
    _deliver(values, sums, {"merged": [printable(name_of(path)) for path in values.merge]}, "added")
    return FINE


def _deliver(values: flags.FlagValues, sums: Sums, about: dict[str, Any], how: str) -> None:
    with replacing(values.out, "wb") as file:
        file.write((to_gguf if values.format == "gguf" else to_dat)(sums))
    unseen = {name: [int(i) for i in (rows == 0).nonzero()[0]] for name, rows in sums.counts.items()}
    unseen = {name: experts for name, experts in sorted(unseen.items()) if experts}

    def report() -> str:
        found = about | {
            "tensors": len(sums.sums), "chunks": sums.chunks, "chunk_size": sums.chunk_size,
            "datasets": [printable(dataset) for dataset in sums.datasets], "experts_never_chosen": unseen,
        }  # fmt: skip
        return command_line.json_text(_head() | found)

    def text() -> str:
        lines = [f"importance of {len(sums.sums)} tensors from {sums.chunks} chunks of {sums.chunk_size}; {how}"]
        lines += [f"never chosen in {name}: {', '.join(map(str, experts))}" for name, experts in unseen.items()]
        return "".join(f"{line}\n" for line in lines)

    command_line.deliver([(values.json, report)], text)


def _head() -> dict[str, Any]:
    return {"schema": SCHEMA, "date": provenance.date(), "versions": provenance.versions()}


# COMPARE


def _compare(values: flags.FlagValues) -> int:
    command_line.check_writable((values.json,))
    found = compare.compared(*values.compare)
    names = [printable(name_of(path)) for path in values.compare]

    def report() -> str:
        only = dict(zip(("only_in_first", "only_in_second"), found.only, strict=True))
        agreements = [agreement._asdict() for agreement in found.agreements]
        return command_line.json_text(_head() | {"compared": names, "tensors": agreements} | only)

    command_line.deliver([(values.json, report)], _comparison(found, names))
    return FINE


def _comparison(found: Comparison, names: list[str]) -> Callable[[], str]:
    """A table, those that agree least first."""

    def text() -> str:
        by_cosine = sorted(found.agreements, key=lambda a: a.cosine)
        rows = [(a.tensor, f"{a.cosine:.4f}", "-" if a.ranks is None else f"{a.ranks:.4f}") for a in by_cosine]
        table = terminal.table([("tensor", "cosine", "ranks"), *rows], right=(1, 2))
        lines = [f"only in {name}: {', '.join(only)}" for name, only in zip(names, found.only, strict=True) if only]
        return terminal.rendered([table, *lines], terminal.has_colour())

    return text
