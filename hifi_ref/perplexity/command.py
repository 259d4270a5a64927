"""The command line of `python -m hifi_ref.perplexity`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from hifi_ref.commands import command_line, kept, provenance, terminal, texts
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import name_of, unusable
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import bos_of, libm, logits, measures, setting
from hifi_ref.models.measures import Estimate

if TYPE_CHECKING:
    from jaxtyping import Float64

USAGE = Usage(
    "perplexity",
    "MODEL.gguf (--text=FILE | --tokens=FILE) [flags]",
    "measure the perplexity of a language model over a text",
    "Measures how well MODEL.gguf, which may be any shard of a split model, foretells a text, as llama-perplexity"
    " defines it, from logits that have the bits of llama.cpp v0.5.0 (x64, flash attention off, K/V cache F32), or are"
    " computed fast. What is done is kept, chunk by chunk, and the same command goes on with it.",
    {
        FINE: "measured", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip
SCHEMA = "hifi_ref.perplexity/1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("perplexity", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()
    texts.define_flags(values)
    texts.define_mode(values)
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
    texts.check_flags(values)
    state = values.resume or f"{paths[0]}.perplexity"
    try:
        chunks, bos = _chunks(paths[0], values)
        command_line.check_writable((values.json, state))
        measured = _measured(paths[0], chunks, bos, state, values.mode)
    except OSError as error:
        raise unusable(error) from None
    result = measures.estimate(measured.ravel())

    def report() -> str:
        return command_line.json_text(_report(paths[0], values, measured, result))

    command_line.deliver([(values.json, report)], lambda: _text(len(measured), values, result))
    if os.path.exists(state):
        os.unlink(state)
    return FINE


def _chunks(model: str, values: flags.FlagValues) -> tuple[list[list[int]], int | None]:
    """The ids of each chunk, and what takes the place of their first. Raises OSError, InputError."""
    bos = bos_of(model)
    ids = texts.ids_of_text(model, values.text) if values.text else texts.ids_of_file(values.tokens)
    return texts.chunks_of(ids, values.context, values.chunks, values.text or values.tokens), bos


def _measured(
    model: str, chunks: list[list[int]], bos: int | None, state: str, mode: str
) -> Float64[np.ndarray, "chunks scored"]:
    """The negative log-likelihoods of each chunk; those of an interrupted run are taken from ``state``."""
    ids = [bos or -1, *itertools.chain(*chunks)]
    digest = kept.digest_of([model], ids, len(chunks[0]), f"{mode} {setting(mode)}")
    where = measures.scored(len(chunks[0]))
    done = kept.load(state, digest).get("nll", np.zeros((0, where.stop - where.start)))
    with terminal.progress(len(chunks), "chunks", "perplexity") as advance:
        advance(len(done))
        for chunk in chunks[len(done) :]:
            z = logits(model, texts.fed(chunk, bos), mode)
            targets = np.array(chunk[where.start + 1 : where.stop + 1])
            done = np.vstack([done, measures.negative_log_likelihoods(z[where], targets, mode)])
            kept.save(state, digest, {"nll": done})
            advance(1, f"{measures.estimate(done.ravel()).perplexity:.4f}")
    return done


def _text(chunks: int, values: flags.FlagValues, result: Estimate) -> str:
    """A line, as the tool ends with, and what it rests on."""
    return (
        f"perplexity {result.perplexity:.4f} +/- {result.uncertainty:.5f}\n"
        f"{result.scored} ids of {chunks} chunks of {values.context}; {provenance.RELEASE} {setting(values.mode)}\n"
    )


def _report(
    model: str, values: flags.FlagValues, measured: Float64[np.ndarray, "chunks scored"], result: Estimate
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "date": provenance.date(),
        "versions": provenance.versions() | {"c_library": libm.version()},
        "model": printable(name_of(model)),
        "text": printable(name_of(values.text or values.tokens)),
        "mode": values.mode,
        "context": values.context,
        "chunks": len(measured),
        **result._asdict(),
        "after_each_chunk": [measures.estimate(measured[: i + 1].ravel()).perplexity for i in range(len(measured))],
    }
