"""The command line of `python -m hifi_ref.smooth`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from absl import flags

from hifi_ref.commands import command_line, texts
from hifi_ref.commands.command_line import FAULT, FINE, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text
from hifi_ref.model_files.files import InputError, name_of, unusable
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.models import with_its_shards
from hifi_ref.models import bos_of, logits
from hifi_ref.models.model import open_model
from hifi_ref.smooth import gain, write
from hifi_ref.smooth.groups import groups_of
from hifi_ref.smooth.products import TARGETS, W8A8
from hifi_ref.smooth.report import Logits, Smoothed, to_json, to_text
from hifi_ref.smooth.scales import AUTO, Recipe, choose
from hifi_ref.smooth.seen import seen

USAGE = Usage(
    "smooth",
    "MODEL.gguf (--text=FILE | --tokens=FILE) --out=FILE [flags]",
    "move outliers of activations into the weights, for W8A8 and Q4_0",
    "SmoothQuant: divides channels of norms, values and gated products by what a text puts into them, and multiplies"
    " the weights that they meet, so that the model computes the same and both are easier to quantize. Takes models in"
    " F32, F16 and BF16, and tells for each group of channels how far they stand out, and the errors of products in"
    " eight bits and in Q4_0, before and after.",
    {
        FINE: "written", USAGE_ERROR: "wrong usage, or a file that cannot be used or written",
        FAULT: "a fault of this program", INTERRUPTED: "interrupted",
    },
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("smooth", _run, argv)


def _flags() -> flags.FlagValues:
    values = command_line.flags_of_all()
    texts.define_flags(values)
    texts.define_mode(values)
    flags.DEFINE_string("out", None, "FILE: the smoothed model", flag_values=values)
    alpha = (
        f"A: how much of the outliers goes into the weights, from 0 to 1 (default 0.5); {AUTO} tries, group by group"
    )
    flags.DEFINE_string("alpha", "0.5", alpha, flag_values=values)
    target = f"NAME: whose errors --alpha={AUTO} goes by (default {W8A8})"
    flags.DEFINE_enum("target", W8A8, TARGETS, target, flag_values=values)
    powers = "round scales to powers of two, so that hardly a number is rounded and types stay"
    flags.DEFINE_boolean("powers-of-two", False, powers, flag_values=values)
    flags.DEFINE_string("json", None, "FILE: write a report for programs; - shows it", flag_values=values)
    return values


def _run(arguments: list[str]) -> int:
    values = _flags()
    paths = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    if len(paths) != 1:
        raise UsageError(f"one model is needed, but {len(paths)} paths are given")
    if not values.out:
        raise UsageError("--out is needed")
    texts.check_flags(values)
    recipe = Recipe(_alpha(values.alpha), values.target, bool(values["powers-of-two"].value))
    try:
        command_line.check_writable((values.json, values.out))
        done = _smoothed(paths[0], values, recipe)
    except OSError as error:
        raise unusable(error) from None
    command_line.deliver([(values.json, lambda: command_line.json_text(to_json(done)))], lambda: to_text(done))
    return FINE


def _alpha(text: str) -> float | str:
    try:
        alpha = AUTO if text == AUTO else float(text)
    except ValueError:
        alpha = -1.0
    if isinstance(alpha, float) and not 0 <= alpha <= 1:
        raise UsageError(f"--alpha must be a number from 0 to 1, or {AUTO}, not {printable(text)!r}")
    return alpha


def _smoothed(path: str, values: flags.FlagValues, recipe: Recipe) -> Smoothed:
    model = open_model(path)
    write.check_source(model)
    if any(os.path.exists(values.out) and os.path.samefile(values.out, own) for own in with_its_shards(path).paths):
        raise InputError(f"{printable(values.out)} is the source itself")
    groups = groups_of(model)
    chunks = _chunks(path, values)
    matrices = {name: (*tensor.shape, 1, 1)[2] for name, (_, tensor) in model.tensors.items()}
    inputs, theirs = seen(path, chunks, groups, matrices, values.mode)
    chosen, scalings = choose(model, groups, inputs, recipe)
    kinds = write.kinds_of(model, scalings)
    found: list[Logits] = []

    def compare(out: str) -> None:
        found.append(_compared(theirs, logits(out, chunks[0], values.mode)))

    about = _about(values, recipe, sum(map(len, chunks)))
    changes = gain.changes(model, groups, inputs, chosen, scalings)
    write.write(model, values.out, scalings, kinds, about, compare)
    own = {name: tensor.type_name for name, (_, tensor) in model.tensors.items()}
    return Smoothed(
        model=model.name,
        out=printable(name_of(values.out)),
        text=printable(name_of(values.text or values.tokens)),
        mode=values.mode,
        context=values.context,
        chunks=len(chunks),
        recipe=recipe,
        groups=changes,
        widened={name: own[name] for name, kind in kinds.items() if kind != own[name]},
        logits=found[0],
    )


def _chunks(path: str, values: flags.FlagValues) -> list[list[int]]:
    ids = texts.ids_of_text(path, values.text) if values.text else texts.ids_of_file(values.tokens)
    chunks = texts.chunks_of(ids, values.context, values.chunks, values.text or values.tokens)
    bos = bos_of(path)
    return [texts.fed(chunk, bos) for chunk in chunks]


def _about(values: flags.FlagValues, recipe: Recipe, ids: int) -> dict:
    about = {
        write.ALPHA: str(recipe.alpha), write.POWERS: recipe.powers,
        write.TEXT: name_of(values.text or values.tokens), write.IDS: ids,
    }  # fmt: skip
    return about | ({write.TARGET: recipe.target} if recipe.alpha == AUTO else {})


def _compared(theirs: np.ndarray, ours: np.ndarray) -> Logits:
    change = np.abs(ours.astype(np.float64) - theirs)
    return Logits(len(ours), float(change.max()), float(np.sqrt(np.mean(theirs.astype(np.float64) ** 2))))
