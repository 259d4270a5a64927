"""The command line of `python -m hifi_ref.quality`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from absl import flags

from hifi_ref.commands import command_line, texts
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import name_of, unusable
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import measures
from hifi_ref.models.divergence import figures
from hifi_ref.models.super_weights import changes as changes_in
from hifi_ref.quality import measure, super_weights, tensors
from hifi_ref.quality.report import Quality, to_json, to_text
from hifi_ref.quality.report_html import to_html

# A flag that may stand without its value.
BARE = ("--super-weights",)
USAGE = Usage(
    "quality",
    "QUANTIZED.gguf --base=BASE.gguf (--text=FILE | --tokens=FILE | --super-weights) [flags]",
    "tell what quantizing did to a model",
    "Has both models read a text, and tells the change of the perplexity and the divergence of one from the other, by"
    " the rule of llama-perplexity --kl-divergence and exactly, the error of each tensor's weights, and a grade by a"
    " stated rule. Logits have the bits of llama.cpp v0.5.0 (x64, flash attention off, K/V cache F32), or are computed"
    " fast. What is done is kept, chunk by chunk, and the same command goes on with it. With --super-weights it lists"
    " those of the base, or of the one model that is given, and what becomes of each.",
    {
        FINE: "measured, whatever the grade", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("quality", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()
    flags.DEFINE_string("base", None, "BASE: the model that was quantized", flag_values=values)
    texts.define_flags(values)
    texts.define_mode(values)
    rules = "RULE: list super weights; RULE is spikes (one pass, the default) or largest (0.01 % of every matrix)"
    flags.DEFINE_string("super-weights", None, rules, flag_values=values)
    flags.DEFINE_string("json", None, "FILE: write a report for programs; - shows it", flag_values=values)
    flags.DEFINE_string("html", None, "FILE: write a page with drawings; - shows it", flag_values=values)
    resume = "FILE: keep what is done in FILE (default: QUANTIZED.gguf.quality), until all is"
    flags.DEFINE_string("resume", None, resume, flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = _flags()
    paths = command_line.parse(values, arguments, BARE)
    if values.help:
        command_line.show(help_text(USAGE, values, BARE))
        return FINE
    if len(paths) != 1:
        raise UsageError(f"one quantized model is needed, but {len(paths)} paths are given")
    if values["super-weights"].value:
        return _list_super_weights(paths[0], values)
    if not values.base:
        raise UsageError("--base is needed")
    texts.check_flags(values)
    state = values.resume or f"{paths[0]}.quality"
    try:
        command_line.check_writable((values.json, values.html, state))
        found = _quality(paths[0], values, state)
    except OSError as error:
        raise unusable(error) from None
    reports = [
        (values.json, lambda: command_line.json_text(to_json(found))), (values.html, lambda: to_html(found)),
    ]  # fmt: skip
    command_line.deliver(reports, lambda: to_text(found))
    if os.path.exists(state):
        os.unlink(state)
    return FINE


def _list_super_weights(path: str, values: flags.FlagValues) -> int:
    rule, base = str(values["super-weights"].value).replace("-", super_weights.SPIKES), values.base or path
    if rule not in super_weights.RULES:
        raise UsageError(f"there is no --super-weights={rule}; there are {' and '.join(super_weights.RULES)}")
    if values.tokens or values.html or values.resume:
        raise UsageError("--super-weights goes with --base, --text, --context, --mode and --json")
    try:
        command_line.check_writable((values.json,))
        weights = super_weights.found(base, rule, values.text, values.context, values.mode)
        changes = changes_in(path, weights) if values.base else None
    except OSError as error:
        raise unusable(error) from None
    names = [printable(name_of(p)) for p in (base, path)]
    listed = super_weights.SuperWeights(names[0], rule, weights, names[1] if values.base else None, changes)
    report = (values.json, lambda: command_line.json_text(super_weights.to_json(listed)))
    command_line.deliver([report], lambda: super_weights.to_text(listed))
    return FINE


def _quality(quantized: str, values: flags.FlagValues, state: str) -> Quality:
    chunks = measure.chunks_of(quantized, values.base, values.text, values.tokens, values.context, values.chunks)
    by_tensor = tensors.errors(quantized, values.base)
    measured = measure.measured(quantized, values.base, chunks, values.mode, state)
    return Quality(
        quantized=printable(name_of(quantized)),
        base=printable(name_of(values.base)),
        text=printable(name_of(values.text or values.tokens)),
        mode=values.mode,
        context=values.context,
        chunks=len(chunks),
        figures={rule: figures(measure.flat(of)) for rule, of in measured.items()},
        by_position=measured["exact"].divergence.mean(axis=0),
        first=measures.scored(values.context).start,
        tensors=by_tensor,
    )
