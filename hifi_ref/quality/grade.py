"""A verdict in a line, and a grade by one stated rule."""

from __future__ import annotations

from hifi_ref.models.divergence import Figures

# A grade is given where the mean divergence and twice its uncertainty are together no more than so many nats.
GRADES = {"A": 0.01, "B": 0.05, "C": 0.2, "D": 1.0}
WORST = "E"
# Of fewer positions nothing is graded: llama-perplexity gives no statistics of them either.
LEAST_POSITIONS = 100
# What is further from 0 than so many times its uncertainty is more than chance.
SURE = 2
RULE = (
    "A grade goes by the mean divergence plus twice its uncertainty, in nats: "
    + ", ".join(f"{grade} up to {most:g}" for grade, most in GRADES.items())
    + f", {WORST} above."
)


def grade(of: Figures) -> str | None:
    """A letter; None where there are too few positions. ``of``: by the exact rule."""
    if of.positions < LEAST_POSITIONS:
        return None
    above = of.divergence.value + SURE * of.divergence.uncertainty
    return next((letter for letter, most in GRADES.items() if above <= most), WORST)


def is_more_than_chance(of: Figures) -> bool:
    """Whether the perplexity changed by more than what chunks of this text can make of nothing."""
    return abs(of.log_ratio.value) > SURE * of.log_ratio.uncertainty


def verdict(of: Figures) -> str:
    """A line."""
    letter = grade(of)
    graded = f"no grade, of {of.positions} positions" if letter is None else f"grade {letter}"
    sure = "more than chance" if is_more_than_chance(of) else "no more than chance"
    return (
        f"{graded}: divergence {of.divergence.value:.5f} +/- {of.divergence.uncertainty:.5f} nats, perplexity"
        f" {of.change.value:+.2f} +/- {of.change.uncertainty:.2f} % ({sure}), the same first id at"
        f" {100 * of.same_top.value:.2f} % of positions"
    )
