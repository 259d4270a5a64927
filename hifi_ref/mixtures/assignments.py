"""Types by tensor that are asked for by a name: a size with what errors count for, or a rule of a neighbour.

measured by their errors, and chosen by knapsack        the bits a weight that a name stands for are chosen here
    balanced          4.5, the bits of Q4_K
    attention-high    4.5, errors in attention count four times
    compression-max   3
    quality-max       6.5625, the bits of Q6_K

rules, which measure nothing and take no size
    by-score            llm-quantize's recommended_bits: a score of 0.9 or more 8 bits, 0.7 6, 0.5 4, 0.3 3, else 2
    ends-high           web-rwkv's: the first and last two layers 8 bits, those between 4, the rest F16
    attention-above-mlp llm-quantize's, after unsloth: attention 4 bits, feed forward 2, embeddings and output 8

Reference: llm-quantize (c01ab77), web-rwkv's GGUF fork (a60d02d1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hifi_ref.mixtures import rules, web_rwkv
from hifi_ref.mixtures.llama_quantize import GUIDED

Shapes = Mapping[str, tuple[int, ...]]
# What is weighed where nothing else is said. Those that need importance are left out where there is none; IQ3_S then
# loses more than Q3_K of equal size.
CANDIDATES = (*GUIDED, "IQ3_S", "Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
BY_IMPORTANCE = (*GUIDED, "IQ3_S")
# And where a row is no whole number of blocks of 256.
OF_SHORT_ROWS = ("Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1")


class Assignment(NamedTuple):
    """``bits`` a weight of all tensors; None where a size is to be given, or nothing is left to choose.

    ``types`` and ``weights``: pairs of a regular expression, searched for in names, and a type, or how many times an
    error counts; the first that matches counts. ``candidates``: types to choose from, CANDIDATES where empty.
    """

    bits: float | None = None
    candidates: tuple[str, ...] = ()
    types: tuple[tuple[str, str], ...] = ()
    weights: tuple[tuple[str, float], ...] = ()

    def type_of(self, name: str) -> str | None:
        return next((kind for pattern, kind in self.types if re.search(pattern, name)), None)

    def weight_of(self, name: str) -> float:
        return next((weight for pattern, weight in self.weights if re.search(pattern, name)), 1.0)


ATTENTION = r"(^|\.)attn_(q|k|v|qkv|output)\b"
MEASURED = {
    "balanced": Assignment(4.5),
    "attention-high": Assignment(4.5, weights=((ATTENTION, 4.0),)),
    "compression-max": Assignment(3.0),
    "quality-max": Assignment(6.5625),
}

# The type of so many bits of codes.
_OF_BITS = {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 6: "Q6_K", 8: "Q8_0"}
_OF_WEB_RWKV = {web_rwkv.OUTER: "Q8_0", web_rwkv.INNER: "IQ4_XS", web_rwkv.HALF: "F16"}


def recommended_bits(score: float) -> int:
    """llm-quantize's, of a score from 0 to 1."""
    return next((bits for least, bits in ((0.9, 8), (0.7, 6), (0.5, 4), (0.3, 3)) if score >= least), 2)


def by_score(shapes: Shapes, importance: Mapping[str, float]) -> dict[str, str]:
    """The score is the share of tensors with importance that have no more of it than this one; 1 without importance.

    llm-quantize does not say how it scales its scores. ``importance``: a tensor's mean.
    """
    values = list(importance.values())

    def score(name: str) -> float:
        return sum(v <= importance[name] for v in values) / len(values) if name in importance else 1.0

    return {name: _OF_BITS[recommended_bits(score(name))] for name in shapes}


def ends_high(shapes: Shapes, importance: Mapping[str, float]) -> dict[str, str]:
    """More bits where a model begins and ends; IQ4_XS has the 4.25 bits of web-rwkv's NF4."""
    return {name: _OF_WEB_RWKV[kind] for name, kind in web_rwkv.types(shapes).items()}


def attention_above_mlp(shapes: Shapes, importance: Mapping[str, float]) -> dict[str, str]:
    """Attention, and what has no kind, 4 bits."""
    bits = {"output": 8, "embedding": 8, "ffn_up": 2, "ffn_gate": 2, "ffn_down": 2}
    return {name: _OF_BITS[bits.get(rules.kind_of(name), 4)] for name in shapes}


# A rule takes the shapes of all tensors that are quantized, and the mean importance of those that have one.
Rule = Callable[[Shapes, Mapping[str, float]], dict[str, str]]
RULES: dict[str, Rule] = {
    "by-score": by_score, "ends-high": ends_high, "attention-above-mlp": attention_above_mlp,
}  # fmt: skip
# Rules that mean nothing without importance.
SCORED = ("by-score",)
