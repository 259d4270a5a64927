"""The command line of `python -m hifi_ref.perplexity`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from hifi_ref.commands import command_line, provenance, terminal
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import bos_of, libm, logits
from hifi_ref.perplexity import inputs, kept, measure
from hifi_ref.perplexity.measure import Estimate

USAGE = Usage(
    "perplexity",
    "MODEL.gguf (--text=FILE | --tokens=FILE) [flags]",
    "measure the perplexity of a language model over a text",
    "Measures how well MODEL.gguf, which may be any shard of a split model, foretells a text, as llama-perplexity"
    " defines it, from logits that have the bits of llama.cpp v0.5.0 (x64, flash attention off, K/V cache F32). What is"
    " done is kept, chunk by chunk, and the same command goes on with it.",
    {
        FINE: "measured", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip
SCHEMA = "hifi_ref.perplexity/1"
SETTING = "exact"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("perplexity", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()
    flags.DEFINE_string("text", None, "FILE: the text", flag_values=values)
    flags.DEFINE_string("tokens", None, "FILE: ids in place of a text, with spaces or commas", flag_values=values)
    flags.DEFINE_integer("context", 512, "N: ids a chunk (default 512)", flag_values=values, lower_bound=4)
    flags.DEFINE_integer("chunks", None, "N: take so many chunks (default: all)", flag_values=values, lower_bound=1)
    flags.DEFINE_string("json", None, "FILE: write a report for programs; - shows it", flag_values=values)
    resume = "FILE: keep what is done in FILE (default: MODEL.gguf.perplexity), until all is"
    flags.DEFINE_string("resume", None, resume, flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = _flags()
    paths = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    if len(paths) != 1:
        raise UsageError(f"one model is needed, but {len(paths)} paths are given")
    if (values.text is None) == (values.tokens is None):
        raise UsageError("either --text or --tokens is needed")
    state = values.resume or f"{paths[0]}.perplexity"
    try:
        chunks, bos = _chunks(paths[0], values)
        command_line.check_writable((values.json, state))
        measured = _measured(paths[0], chunks, bos, state)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    result = measure.estimate(list(itertools.chain(*measured)))

    def report() -> str:
        return command_line.json_text(_report(paths[0], values, measured, result))

    command_line.deliver([(values.json, report)], lambda: _text(measured, values.context, result))
    if os.path.exists(state):
        os.unlink(state)
    return FINE


def _chunks(model: str, values: flags.FlagValues) -> tuple[list[list[int]], int | None]:
    """The ids of each chunk, and what takes the place of their first. Raises OSError, InputError."""
    bos = bos_of(model)
    given = values.text or values.tokens
    ids = inputs.ids_of_text(model, given) if values.text else inputs.ids_of_file(given)
    n = values.context
    if len(ids) < 2 * n:
        raise InputError(f"{printable(given)} has {len(ids)} ids, and at least {2 * n}, two chunks of {n}, are needed")
    count = min(len(ids) // n, values.chunks or len(ids))
    return [ids[i * n : (i + 1) * n] for i in range(count)], bos


def _measured(model: str, chunks: list[list[int]], bos: int | None, state: str) -> list[list[float]]:
    """The negative log-likelihoods of each chunk; those of an interrupted run are taken from ``state``."""
    digest = kept.digest_of(
        model, [bos or -1, *itertools.chain(*chunks)], len(chunks[0]), f"{SETTING} {libm.version()}"
    )
    done = kept.load(state, digest)
    where = measure.scored(len(chunks[0]))
    with terminal.progress(len(chunks), "chunks", "perplexity") as advance:
        advance(len(done))
        for chunk in chunks[len(done) :]:
            z = logits(model, measure.fed(chunk, bos))
            targets = np.array(chunk[where.start + 1 : where.stop + 1])
            done.append(measure.negative_log_likelihoods(z[where], targets).tolist())
            kept.save(state, digest, done)
            advance(1, f"{measure.estimate(list(itertools.chain(*done))).perplexity:.4f}")
    return done


def _text(measured: list[list[float]], context: int, result: Estimate) -> str:
    """A line, as the tool ends with, and what it rests on."""
    return (
        f"perplexity {result.perplexity:.4f} +/- {result.uncertainty:.5f}\n"
        f"{result.scored} ids of {len(measured)} chunks of {context}; {provenance.RELEASE} x64, flash attention off,"
        f" K/V cache F32; {libm.version()}\n"
    )


def _report(model: str, values: flags.FlagValues, measured: list[list[float]], result: Estimate) -> dict[str, Any]:
    ends = itertools.accumulate((list(chunk) for chunk in measured), lambda a, b: a + b)
    return {
        "schema": SCHEMA,
        "date": provenance.date(),
        "versions": provenance.versions() | {"c_library": libm.version()},
        "model": printable(name_of(model)),
        "scored": printable(name_of(values.text or values.tokens)),
        "mode": SETTING,
        "context": values.context,
        "chunks": len(measured),
        **result._asdict(),
        "after_each_chunk": [measure.estimate(end).perplexity for end in ends],
    }
