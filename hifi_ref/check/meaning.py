"""What a difference from the reference means: another arithmetic, another encoder, another source, or damage.

Which known build wrote the blocks that differ is told by profiles.py, exactly. Others that fuse multiply-adds write a
few blocks in which a search ended elsewhere: up to 8 % of a format's blocks, as good as the reference's on average,
none worse by a third (measured against the release's own arm64 build). Blocks that were changed later are as rare, but
one or two, or worse nearly all, or off by a single byte. Another encoder changes most blocks, and its error tells how
good it is. Where the error is far above the reference's, the weights are others.
"""

from __future__ import annotations

import numpy as np

from hifi_ref.check.comparison import DIFFERS, NOT_JUDGED, OTHERWISE, REPRODUCED, TensorResult
from hifi_ref.check.profiles import Explained
from hifi_ref.check.sourced import Way
from hifi_ref.check.tally import Tally, like_damage
from hifi_ref.formats import FORMATS, WITHOUT_SEARCH
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.weights import Weights

FEW = 0.15
AS_GOOD, NO_WORSE = 1.06, 1.34
# Errors relative to the reference's up to which an encoder is thought of; and to the weights, where none is any more.
OTHER_ENCODER, NO_LIKENESS = 1.7, 0.9


def result_of(tensor: Tensor, explained: Explained, way: Way, weights: Weights) -> TensorResult:
    """Put a tally into words, as far as one tensor alone can tell."""
    tally = explained.tally
    result = TensorResult(
        tensor.name,
        REPRODUCED,
        source_name=weights.name,
        source_type=weights.kind,
        importance=way.importance is not None,
        blocks_judged=tally.judged,
        blocks_differing=tally.differing,
        blocks_not_finite=tally.not_finite,
        first=tally.first,
        fields=dict(tally.fields),
        errors=tally.errors() if tally.judged else {},
        map=_map(tally),
        histogram=tally.histogram.tolist() if tally.kind.block_size > 1 else [],
    )
    if not tally.judged:
        result.outcome, result.meaning, result.why = NOT_JUDGED, "not finite", "the source's weights are not finite"
    elif tally.differing and weights.doubt:
        result.outcome, result.meaning, result.why = NOT_JUDGED, "conversion", weights.doubt
    elif weights.doubt and way.name == "order":
        # Of rotary halves and pairs, an architecture that is not known may have either.
        pass
    elif tally.differing:
        result.outcome, result.profile = DIFFERS, explained.profile
        result.meaning = "profile" if explained.whole else _meaning(tally, way)
        result.single_bytes, result.worse = tally.single_bytes, tally.worse
    elif way.name:
        result.outcome, result.meaning = OTHERWISE, way.name
    return result


def _meaning(tally: Tally, way: Way) -> str:
    ratios = tally.ratios()
    few = tally.differing <= max(1, FEW * tally.judged)
    mean = float(np.exp(np.mean(np.log(np.clip(ratios, 1e-6, 1e6)))))
    name = tally.kind.name
    # Q4_0 and Q5_0 search with importance only.
    searched = name not in WITHOUT_SEARCH and (way.importance is not None or name not in ("Q4_0", "Q5_0"))
    if few:
        alike = 1 / AS_GOOD <= mean <= AS_GOOD if len(ratios) > 4 else mean <= NO_WORSE
        return "few" if searched and alike and ratios.max() <= NO_WORSE else "damage"
    relative = (tally.error / tally.square) ** 0.5 if tally.square else np.inf
    ratio = (tally.error / tally.reference_error) ** 0.5 if tally.reference_error else np.inf
    limit = 2.5 if FORMATS[name].block_size == 1 else OTHER_ENCODER
    return "source" if ratio > limit or relative > NO_LIKENESS else "encoder"


def settle(results: list[TensorResult], names_importance: bool) -> None:
    """Decide what one tensor alone could not: a fused build leaves its mark in many blocks, damage in one.

    ``names_importance``: the file says that it was quantized with importance, and none was given.
    """
    few = [result for result in results if result.meaning == "few"]
    # What remains once a profile explains the rest is judged by itself
    for group in ([r for r in few if r.profile], [r for r in few if not r.profile]):
        damage = like_damage(
            sum(r.blocks_differing for r in group), sum(r.single_bytes for r in group), sum(r.worse for r in group)
        )
        for result in group:
            result.meaning = "damage" if damage else "profile"
            result.profile = result.profile if damage else ""
    for result in results:
        if names_importance and result.meaning == "encoder":
            result.outcome, result.meaning = NOT_JUDGED, "importance"
            result.why = "the file was quantized with an importance matrix, and none is given"


def _map(tally: Tally) -> dict[str, list[float]]:
    """Cells in the order of the tensor's blocks: differing blocks, and the error relative to the weights."""
    differing, error, square, n = tally.map
    used = n > 0
    with np.errstate(all="ignore"):
        relative = np.sqrt(np.where(square > 0, error / square, 0))
    return {
        "differing": differing[used].astype(int).tolist(),
        "relative_error": [float(f"{r:.3g}") for r in relative[used]],
    }
