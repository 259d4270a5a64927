"""Runs every format with each annotation checked: the shapes and dtypes of what functions take and give.

    python -m tests.typed LANE [FORMAT ...]

LANE is numpy or jax, where operations are traced as the lane traces them. Prints what does not hold; exit code 1 where
there is any. The names in annotations are imported for type checkers alone, so this process says that it is one.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator

import jax
import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import AnnotationError, TypeCheckError, install_import_hook, jaxtyped

ROOMS = ("hifi_ref.exact", "hifi_ref.formats", "hifi_ref.lanes.jax_lane.searches")
# Where a float is asked for an int will do, as for other type checkers.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
ROWS = 3

typing.TYPE_CHECKING = True
with install_import_hook(ROOMS, CHECKER):
    from hifi_ref import FORMATS, exact
    from hifi_ref.formats import Format, hard_inputs, q4_0
    from hifi_ref.formats.search import scale_search
    from hifi_ref.lanes.jax_lane import watched
typing.TYPE_CHECKING = False


def check_named_tuples() -> None:
    """Have the fields of named tuples checked where one is made: the hook sees to functions and dataclasses alone."""
    check = beartype(conf=BeartypeConf(is_pep484_tower=True))
    for name, module in list(sys.modules.items()):
        for kind in vars(module).values() if name.startswith(ROOMS) else ():
            if inspect.isclass(kind) and issubclass(kind, tuple) and kind.__module__ == name:
                kind.__new__.__annotations__ = typing.get_type_hints(kind, include_extras=True)
                kind.__new__ = jaxtyped(kind.__new__, typechecker=check)


def operations(f: Format, lane: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every operation of a format on a few rows of random blocks, by its name."""

    def run(traced: Callable, definition: Callable, *operands: np.ndarray) -> Callable[[], object]:
        if lane == "numpy":
            return lambda: definition(*operands)
        return lambda: jax.eval_shape(lambda *o: traced(f, *o)[0], *operands)

    rng = np.random.default_rng(1)
    size = max(f.block_size, 256)
    w = np.stack([hard_inputs.usual_blocks(f, rng, 2 * size // f.block_size) for _ in range(ROWS)])
    yield "decode", run(watched.decode, f.decode, w[0])
    x = rng.standard_normal((ROWS, 2 * size // f.block_size, f.block_size)).astype(np.float32)
    importance = np.exp(rng.standard_normal(x.shape[1:])).astype(np.float32)
    if f.encode is not None:
        yield "encode with importance", run(watched.encode, f.encode, x, importance)
    if f.encode is not None and not f.requires_weights:
        yield "encode", run(lambda f, x: watched.encode(f, x, None), lambda x: f.encode(x, None), x)
    if f.dot is not None:
        partner = hard_inputs.partner_of(f)
        a = hard_inputs.usual_blocks(partner, rng, 2 * size // partner.block_size)
        yield "dot", run(watched.dot, f.dot, w, a)


def is_seen(wrong: Callable[[], object]) -> bool:
    try:
        wrong()
    except TypeCheckError:
        return True
    return False


def main(lane: str, *names: str) -> int:
    check_named_tuples()
    x = np.zeros(3, np.float32)
    if not is_seen(lambda: q4_0.decode(np.zeros((2, 17), np.uint8))) or not is_seen(lambda: scale_search.Fit(x, x)):
        print("annotations are not checked")
        return 1
    failures = 0
    for name in names or FORMATS:
        for what, operation in operations(FORMATS[name], lane):
            try:
                with np.errstate(all="ignore"), exact.made_for("cpu"):
                    operation()
            except (AnnotationError, TypeCheckError) as error:
                failures += 1
                print(f"{name} {what}: {error}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
