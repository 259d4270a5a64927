"""Verdicts on what the roadmaps claim, from the rows that were measured on the sample model.

Two rows are compared chunk by chunk: the change of the perplexity, with the uncertainty of its mean over the chunks.
What is within SURE uncertainties of nothing is called too close.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Rows = Mapping[str, Mapping[str, Any]]
SURE = 2
M = ", importance mixed"
FIRST, SECOND = "the roadmap of Q4_HIFI", "the roadmap of the HIFI family"
ACROSS = "the analysis of Q3_K_HIFI across Qwen3"
HOLDS, PARTLY, FAILS, CLOSE, UNKNOWN = "borne out", "in part", "not borne out", "too close", "not judged"


class Claim(NamedTuple):
    """``judged``: of the rows a verdict and the figures, in a sentence."""

    source: str
    text: str
    judged: Callable[[Rows], tuple[str, str]]


class Change(NamedTuple):
    """Of the perplexity from one row to another, in per cent, and its uncertainty."""

    value: float
    uncertainty: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.uncertainty:.2f} %"


def change(of: Mapping[str, Any], against: Mapping[str, Any]) -> Change:
    """How much higher the perplexity of a row is than another's, on the same chunks."""
    ratio = np.subtract(of["nll"], against["nll"])
    factor = 100 * math.exp(ratio.mean())
    return Change(factor - 100, factor * float(ratio.std(ddof=1)) / math.sqrt(len(ratio)))


def apart(of: Mapping[str, Any], against: Mapping[str, Any]) -> float:
    """By how many uncertainties the divergence of a row is above another's, on the same chunks."""
    difference = np.subtract(of["kld"], against["kld"])
    return float(difference.mean() / (difference.std(ddof=1) / math.sqrt(len(difference)) or 1e-30))


def verdict(found: Change, least: float) -> str:
    """Of a perplexity that is said to be so many per cent lower."""
    gain, doubt = -found.value, SURE * found.uncertainty
    if gain + doubt < 0:
        return FAILS
    if gain - doubt < 0:
        return CLOSE if gain + doubt >= least else FAILS
    return HOLDS if gain + doubt >= least else PARTLY


def judgement(of: Claim, rows: Rows) -> tuple[str, str]:
    """The verdict and its figures; none where a row was not measured."""
    try:
        return of.judged(rows)
    except KeyError as row:
        return UNKNOWN, f"{row.args[0]} was not measured"


def _lower(of: str, against: str, least: float) -> Callable[[Rows], tuple[str, str]]:
    """A row's perplexity is at least so many per cent lower than another's."""

    def judged(rows: Rows) -> tuple[str, str]:
        a, b = rows[of], rows[against]
        found, room = change(a, b), change(rows["type: F16"], b)
        return within(found, least, room), f"{found}, F16 {room}; {_pair(a, b)}; {_at_its_size(rows, a)}"

    return judged


def within(found: Change, least: float, room: Change) -> str:
    """A verdict; where all that was lost, ``room``, is less than what is said to be gained, of the direction alone."""
    if -room.value + SURE * room.uncertainty >= least:
        return verdict(found, least)
    direction = verdict(found, 0)
    return PARTLY if direction == HOLDS else direction


def _pair(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    size, away = 100 * (a["bits"] / b["bits"] - 1), apart(a, b)
    word = "no more than chance" if abs(away) < SURE else "more" if away > 0 else "less"
    nats = " against ".join(f"{row['divergence'][0]:.4f}" for row in (a, b))
    return f"divergence {nats} ({word}), {a['bits']:.2f} bits against {b['bits']:.2f} ({size:+.1f} %)"


def _at_its_size(rows: Rows, of: Mapping[str, Any]) -> str:
    """The least divergence that llama.cpp has in no more bits, with the same importance or none."""
    others = [
        row for row in rows.values()
        if row["family"] in ("type", "mixture")
        and row["bits"] <= of["bits"]
        and row["importance"] in ("", of["importance"])
    ]  # fmt: skip
    if not others:
        return "llama.cpp has nothing as small"
    best = min(others, key=lambda row: row["divergence"][0])
    return f"of llama.cpp's up to its size {best['name']} has {best['divergence'][0]:.4f} in {best['bits']:.2f} bits"


def _family(rows: Rows, *families: str) -> list[Mapping[str, Any]]:
    """Rows of these families without importance; a KeyError where none was measured."""
    found = [row for row in rows.values() if row["family"] in families and not row["importance"]]
    if not found:
        raise KeyError(families[0])
    return found


def _outliers(rows: Rows) -> tuple[str, str]:
    """Each HIFI and LITE type against the least divergence that llama.cpp has in no more bits."""
    plain, verdicts = _family(rows, "type", "mixture"), {}
    for row in _family(rows, "HIFI", "LITE"):
        best = min((other for other in plain if other["bits"] <= row["bits"]), key=lambda other: other["divergence"][0])
        verdicts[row["name"]] = apart(row, best) > SURE
    others = [name for name, beaten in verdicts.items() if not beaten]
    found = HOLDS if not others else FAILS if len(others) == len(verdicts) else PARTLY
    named = f", but not {', '.join(others)}" if others else ""
    count = f"{len(verdicts) - len(others)} of {len(verdicts)}"
    return found, f"{count} types that keep outliers diverge more than what llama.cpp has in no more bits{named}"


def _against_base(rows: Rows) -> tuple[str, str]:
    """Each HIFI type against the base that it keeps outliers of."""
    pairs = [("Q2_K_HIFI", "Q2_K"), ("Q3_K_HIFI", "Q3_K"), ("Q4_K_HIFI", "Q4_K"), ("Q6_K_HIFI", "Q6_K")]
    kinds = [(rows[f"HIFI: {a}"], rows[f"type: {b}"]) for a, b in pairs]
    better = [a["name"] for a, b in kinds if apart(a, b) < -SURE]
    said = ", ".join(f"{a['name']} {a['divergence'][0] / b['divergence'][0]:.2f}" for a, b in kinds)
    found = HOLDS if len(better) == len(kinds) else PARTLY if better else FAILS
    return found, f"of the base's divergence remain: {said}"


def _kinds(rows: Rows) -> tuple[str, str]:
    """Which kinds of matrix cost most, weight by weight: the three of the claim against the others."""
    by_kind = {
        row["name"].split()[0]: row["divergence"][0] / row["share"]
        for row in _family(rows, "part")
        if not row["name"].startswith("layer")
    }
    ranked = sorted(by_kind, key=lambda kind: -by_kind[kind])
    named = {"attn_v", "ffn_gate", "token_embd"}
    hits = len(named & set(ranked[:3]))
    shown = ", ".join(f"{kind} {by_kind[kind]:.2f}" for kind in ranked)
    return {3: HOLDS, 0: FAILS}.get(hits, PARTLY), f"divergence by share of the weights, in Q2_K alone: {shown}"


def _layers(rows: Rows) -> tuple[str, str]:
    layers = [row for row in _family(rows, "part") if row["name"].startswith("layer")]
    shown = ", ".join(f"{row['name'].split(' in')[0]} {row['divergence'][0]:.3f}" for row in layers)
    ranked = all(apart(layers[0], row) > SURE for row in layers[1:])
    return (HOLDS if ranked else FAILS), f"divergence with one layer in Q2_K: {shown}"


def _importance(rows: Rows) -> tuple[str, str]:
    """Each type that keeps outliers with importance against the same without."""
    better, worse = [], []
    for row in _family(rows, "HIFI", "LITE"):
        weighted = rows.get(f"{row['family']}: {row['name']}{M}")
        if weighted and abs(apart(weighted, row)) > SURE:
            (better if apart(weighted, row) < 0 else worse).append(row["name"])
    found = HOLDS if better and not worse else PARTLY if better else FAILS
    return found, f"divergence less with importance: {', '.join(better) or 'none'}; more: {', '.join(worse) or 'none'}"


def _mixing(rows: Rows) -> tuple[str, str]:
    """Importance over both kinds of text against that over one, on a text that has both."""
    found, worse = [], 0
    for name in ("IQ2_XS", "Q2_K", "Q3_K_M"):
        mixed, *single = (rows[f"mixture: {name}, importance {text}"] for text in ("mixed", "prose", "code"))
        plain = rows.get(f"mixture: {name}")
        worse += all(apart(row, mixed) > SURE for row in single)
        nats = [f"{row['divergence'][0]:.4f}" for row in (mixed, *single)]
        without = f", none {plain['divergence'][0]:.4f}" if plain else ""
        found.append(f"{name} mixed {nats[0]}, prose {nats[1]}, code {nats[2]}{without}")
    return {3: HOLDS, 0: FAILS}.get(worse, PARTLY), f"divergence by importance: {'; '.join(found)}"


CLAIMS = (
    Claim(FIRST, "Q4_HIFI's perplexity is 4.9 % lower than Q4_K_M's in models up to 2 billion weights",
          _lower(f"roadmap: Q4_HIFI{M}", f"mixture: Q4_K_M{M}", 4.9)),
    Claim(FIRST, "and 9.2 % lower than Q4_K_S's, for 6 to 8 % more size",
          _lower(f"roadmap: Q4_HIFI{M}", f"mixture: Q4_K_S{M}", 9.2)),
    Claim(SECOND, "Q3_K_HIFI's perplexity is 4.9 % lower than Q3_K_M's, for 2.5 % more size",
          _lower(f"roadmap: Q3_K_HIFI{M}", f"mixture: Q3_K_M{M}", 4.9)),
    Claim(SECOND, "Q4_K_HIFI_M's perplexity is 1.0 to 1.6 % lower than Q4_K_M's, for 1.7 % more size",
          _lower(f"roadmap: Q4_K_HIFI_M{M}", f"mixture: Q4_K_M{M}", 1.0)),
    Claim(SECOND, "Q4_K_HIFI_L's perplexity is 0.8 to 1.2 % lower than Q4_K_S's, for 0.5 % more size",
          _lower(f"roadmap: Q4_K_HIFI_L{M}", f"mixture: Q4_K_S{M}", 0.8)),
    Claim(ACROSS, "Q3_K_HIFI's perplexity is 16 to 21 % lower than Q3_K_M's up to 2 billion weights, for 2 % less size",
          _lower(f"roadmap: Q3_HIFI{M}", f"mixture: Q3_K_M{M}", 16)),
    Claim(ACROSS, "and 26 % lower than Q3_K_S's, for 4.5 % more size",
          _lower(f"roadmap: Q3_HIFI{M}", f"mixture: Q3_K_S{M}", 26)),
    Claim(FIRST, "keeping outliers lowers the loss of a K format", _against_base),
    Claim(SECOND, "uniform higher precision beats sparse outliers (said of 4 billion weights and more)", _outliers),
    Claim(SECOND, "precision matters most in attn_v, ffn_gate and token_embd", _kinds),
    Claim(SECOND, "early layers matter most", _layers),
    Claim(FIRST, "importance helps what keeps outliers", _importance),
    Claim(SECOND, "an importance matrix must mix domains", _mixing),
)  # fmt: skip
