"""How an encoder searches: the trials that it makes for one block, where it stops, and where the true optimum is.

The trials are those of the definition, recorded while it encodes; the optimum is found apart from it, by trying all.
Errors are weighted sums of squares, as the search itself weighs them, relative to the weighted squares of the weights:
of a scale as it is found, before it is rounded to what a block stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.explain.search import optimum
from hifi_ref.explain.search.recording import Record, recorded
from hifi_ref.formats import FORMATS, codebooks, mxfp4


class Try(NamedTuple):
    """A scale (and a min, 0 where the format has none), the error that it gives, and whether it was kept."""

    scale: float
    low: float
    error: float
    kept: bool


class Search(NamedTuple):
    """The search of one sub-block: its weights x and how much each counts, w, f64[n]; the trials in order, the first
    of which is where the search begins; what it stops with; and the best there is."""

    x: np.ndarray
    w: np.ndarray
    trials: list[Try]
    stop: Try
    best: Try


class Kind(NamedTuple):
    """How a format searches: in one sentence, the values of its codes, and what reads its records."""

    says: str
    codes: np.ndarray
    read: Callable[[list[Record], Kind], list[Search]]
    functions: tuple[str, ...]
    turns: tuple[str, ...] = ()


def searches(name: str, x: np.ndarray, importance: np.ndarray | None) -> list[Search]:
    """The searches of a block's sub-blocks, f32[block_size]; those that are all zero have none that means anything."""
    kind = KINDS[name]
    if name == "MXFP4":
        return [_of_exponents(x)]
    run = lambda: api.encode(name, x, importance, lane="numpy")  # noqa: E731
    return kind.read(recorded(run, kind.functions, kind.turns), kind)


def _squares(x: np.ndarray, w: np.ndarray) -> float:
    """What errors are relative to."""
    return float((w * x * x).sum()) or 1.0


def _by_sums(qx: float, q2: float, squares: float, kept: bool) -> Try:
    """A trial by its sums w q x and w q q, whose scale is their quotient."""
    scale = float(qx) / float(q2) if q2 else 0.0
    return Try(scale, 0.0, 1 - scale * float(qx) / squares, kept)


def _wide(a: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64)


# SCALE AND MIN


def _scale_and_min(records: list[Record], kind: Kind) -> list[Search]:
    *attempts, whole = records
    x = _wide(whole.values["x"])
    w = np.stack([_wide(whole.values["w"](i)) for i in range(len(x))])
    made = []
    for s in range(x.shape[1]):
        squares = _squares(x[:, s], w[:, s])
        _, low, error, *_ = attempts[0].values["state"]
        scale = attempts[0].values["state"][0]
        trials = [Try(float(scale[s]), -float(low[s]), float(error[s]) / squares, True)]
        for attempt in attempts:
            of = {name: float(attempt.values[name][s]) for name in ("trial_scale", "trial_min", "error", "better")}
            trials.append(Try(of["trial_scale"], -of["trial_min"], of["error"] / squares, bool(of["better"])))
        stop = [trial for trial in trials if trial.kept][-1]
        best = Try(*optimum.scale_and_min(x[:, s], w[:, s], kind.codes, stop.scale, stop.low), True)
        made.append(Search(x[:, s], w[:, s], trials, stop, best))
    return made


# SCALE


def _by_codes(x: np.ndarray, w: np.ndarray, q: np.ndarray, kept: bool) -> Try:
    """A trial by the codes that it gives, and the scale that suits them best."""
    q2 = float((w * q * q).sum())
    scale = float((w * x * q).sum()) / q2 if q2 else 0.0
    return Try(scale, 0.0, float((w * (x - scale * q) ** 2).sum()) / _squares(x, w), kept)


def _scale(records: list[Record], kind: Kind) -> list[Search]:
    """Searches that try inverses of a scale: make_qx_quants and that of IQ4_NL."""
    *attempts, whole = records
    x, weight, peak = whole.values["x"], whole.values["w"], whole.values["peak"]
    w = np.stack([_wide(weight(i)) for i in range(len(x))]) if callable(weight) else _wide(weight)
    if "trials" in whole.values:
        inverses = [np.float32(127) / peak, *(trial / peak for trial in whole.values["trials"])]
    else:
        inverses = [attempts[0].values["state"][2], *(attempt.values["trial"] for attempt in attempts)]
    kept = [np.ones(len(peak), bool), *(attempt.values["better"] for attempt in attempts)]
    made = []
    for s in range(x.shape[1]):
        of_one = _wide(x[:, s]), w[:, s]
        trials = [
            _by_codes(*of_one, _codes_of(x[:, s] * inverse[s], kind), bool(better[s]))
            for inverse, better in zip(inverses, kept, strict=True)
        ]
        made.append(_stopped(*of_one, trials, kind))
    return made


def _codes_of(shares: np.ndarray, kind: Kind) -> np.ndarray:
    """The codes of shares in binary32, which meet ties as the encoder's do: f32[n] -> f64[n]."""
    if kind is KINDS["IQ4_NL"]:
        return kind.codes[codebooks.nearest_step_iq4(shares)]
    return np.clip(np.rint(_wide(shares)), kind.codes[0], kind.codes[-1])


def _stopped(x: np.ndarray, w: np.ndarray, trials: list[Try], kind: Kind) -> Search:
    stop = [trial for trial in trials if trial.kept][-1]
    return Search(x, w, trials, stop, Try(*optimum.scale(x, w, kind.codes), True))


# STEP BY STEP


def _single_steps(records: list[Record], kind: Kind) -> list[Search]:
    """Each turn of a pass moves one code, where that helps; a later pass sees only the sub-blocks that moved."""
    turns = [record.values for record in records if record.function.endswith("passes")]
    whole = next(record.values for record in records if record.function == "least_square_error_by_single_steps")
    x = _wide(whole["x"])
    made = []
    for s in range(x.shape[1]):
        column, of_one = s, (x[:, s], x[:, s] ** 2)
        start = np.clip(np.rint(x[:, s] * float(whole["inverse"][s])), kind.codes[0], kind.codes[-1])
        trials = [_by_codes(*of_one, start, True)]
        for most in range(5, 0, -1):
            of_pass = [turn for turn in turns if turn["most"] == most]
            if not of_pass or column < 0:
                break
            for turn in of_pass:
                q = _wide(turn["codes"][:, column])
                q[turn["i"]] = float(turn["new"][column])
                trials.append(_by_codes(*of_one, q, bool(turn["better"][column])))
            moved = of_pass[-1]["moved"]
            column = int(moved[:column].sum()) if moved[column] else -1
        made.append(_stopped(*of_one, trials, kind))
    return made


# ROWS OF A GRID


def _grid(records: list[Record], kind: Kind) -> list[Search]:
    *attempts, whole = records
    x, w = _wide(whole.values["x"]), _wide(whole.values["w"])
    rows = codebooks.grid("IQ2_XXS") // 8
    made = []
    for s in range(x.shape[1]):
        squares = _squares(x[:, s], w[:, s])
        trials = [
            _by_sums(a.values["qx"][a.values["k"], s], a.values["q2"][a.values["k"], s], squares,
                     bool(a.values["better"][s]))
            for a in attempts
        ]  # fmt: skip
        # The rows once more, for the scale that won.
        again = _by_sums(whole.values["qx"][s], whole.values["q2"][s], squares, True)
        best = Try(*optimum.rows(x[:, s], w[:, s], rows, again.scale), True)
        made.append(Search(x[:, s], w[:, s], [*trials, again], again, best))
    return made


# POWERS OF TWO


def _of_exponents(block: np.ndarray) -> Search:
    """MXFP4 makes no trials: the largest magnitude alone gives its power of two. All others are the optimum's."""
    x, codes = _wide(block), np.unique(codebooks.STEPS_FP4).astype(np.float64)
    w = np.ones_like(x)
    chosen = int(mxfp4.LAYOUT.by_name(api.encode("MXFP4", block, lane="numpy"))["e"])

    def of(e: int) -> Try:
        step = 2.0 ** (e - 128)
        return Try(step, 0.0, float(((x - step * optimum.nearest(x / step, codes)) ** 2).sum()) / _squares(x, w), True)

    best = min((of(e) for e in range(max(0, chosen - 8), min(255, chosen + 8))), key=lambda one: one.error)
    return Search(x, w, [of(chosen)], of(chosen), best)


KINDS = {
    "Q4_K": Kind(
        "It begins with the scale and min that span the weights; then 21 times it divides the range into 14 to 16 "
        "parts, rounds the weights to codes, and solves for the scale and min that suit these codes best.",
        np.arange(16.0), _scale_and_min,
        ("_least_error_with_min.<locals>.attempt", "_least_error_with_min"),
    ),
    "Q6_K": Kind(
        "It begins with the scale that puts the weight of largest magnitude on code -32, tries 18 scales around it, "
        "and takes of each the codes, and the scale that suits these best.",
        np.arange(-32.0, 32), _scale,
        ("least_weighted_square_error.<locals>.attempt", "least_weighted_square_error"),
    ),
    "Q3_K": Kind(
        "It begins with the scale that puts the weight of largest magnitude on code -4. Then it goes through the "
        "codes, in five passes at most, and moves one at a time where that lessens the error; the scale follows.",
        np.arange(-4.0, 4), _single_steps,
        ("least_square_error_by_single_steps",), ("improve_by_single_steps.<locals>.passes",),
    ),
    "IQ2_XXS": Kind(
        "It tries 13 scales. For each it takes, eight weights at a time, the nearest row of the grid among those near "
        "by, and then the scale that suits these rows best; for the one that wins the rows are chosen once more. "
        "Magnitudes count as 1, 3 and 5 here, though they are decoded as 8, 25 and 43 eighths.",
        np.array([1.0, 3, 5]), _grid, ("fit.<locals>.attempt", "fit"),
    ),
    "IQ4_NL": Kind(
        "It begins with the scale that puts the weight of largest magnitude on the step 127, and tries 15 that put it "
        "on -134 to -120, each with the nearest steps and the scale that suits these best.",
        np.sort(codebooks.STEPS_IQ4).astype(np.float64), _scale,
        ("_scale_of_least_error.<locals>.attempt", "_scale_of_least_error"),
    ),
    "MXFP4": Kind(
        "It does not search: the power of two follows from the largest magnitude.",
        np.unique(codebooks.STEPS_FP4).astype(np.float64), _scale, (),
    ),
}  # fmt: skip
assert set(KINDS) <= set(FORMATS)
