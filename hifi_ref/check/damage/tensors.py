"""Whole tensors: those that must not be zero, and copies of another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hifi_ref.check.damage.scales import NORM
from hifi_ref.check.damage.survey import PAGE, Survey
from hifi_ref.model_files.gguf_file import Gguf
from hifi_ref.model_files.gguf_model import CHUNK
from hifi_ref.model_files.remote import held

# Without one of these every answer of the model is the same.
NEEDED = ("token_embd.weight", "output.weight", "output_norm.weight")
# Norms at the end of a branch may start at zero, and so switch the branch off.
_MAY_BE_ZERO = re.compile(r"(^|\.)post_|_post_norm")
_LAYER = re.compile(r"^(.*?\.)(\d+)\.(.+)$")
# Roles of one layer that some models share.
_SHARED = ({"attn_k.weight", "attn_v.weight"},)
# A layer needs so many further matrices to tell a copied layer from a copied tensor.
_OTHERS = 3


def must_not_be_zero(name: str) -> str | None:
    """The code of the finding where a tensor of this name is all zero; None where models may have it so."""
    if name in NEEDED:
        return "P014"
    return "P015" if NORM.search(name) and not _MAY_BE_ZERO.search(name) else None


def copies(gguf: Gguf, surveys: Sequence[Survey]) -> list[tuple[Survey, Survey]]:
    """Matrices of layers that are another's copy, where nothing else in the file is so made.

    A model that repeats whole layers, or shares tensors by design, does it more than once; then nothing is found.
    """
    groups: dict[tuple[object, ...], list[Survey]] = defaultdict(list)
    for survey in surveys:
        if _LAYER.match(survey.tensor.name) and _is_matrix(survey):
            groups[survey.tensor.type_name, survey.tensor.shape, survey.samples].append(survey)
    alike = [group for group in groups.values() if len(group) > 1 and not _uniform(gguf, group[0])]
    if any(len(group) > 2 for group in alike):
        return []
    pairs = [(one, other) for one, other in alike if _same_bytes(gguf, one, other)]
    roles = [frozenset((_parts(one)[2], _parts(other)[2])) for one, other in pairs]
    return [
        (one, other)
        for (one, other), role in zip(pairs, roles, strict=True)
        if roles.count(role) == 1 and _alone(gguf, one, other, surveys)
    ]


def _is_matrix(survey: Survey) -> bool:
    return sum(n > 1 for n in survey.tensor.shape) > 1 and survey.tensor.known_nbytes >= PAGE


def _parts(survey: Survey) -> tuple[str, str, str]:
    """Of the name: what stands before the layer's number, the number, and the role."""
    match = _LAYER.match(survey.tensor.name)
    return (match[1], match[2], match[3]) if match else ("", "", survey.tensor.name)


def _alone(gguf: Gguf, one: Survey, other: Survey, surveys: Sequence[Survey]) -> bool:
    """Whether the two layers are otherwise different, and the two roles are none that models share."""
    (prefix, layer, role), (prefix_of_other, layer_of_other, role_of_other) = _parts(one), _parts(other)
    if prefix != prefix_of_other:
        return False
    if role != role_of_other:
        # Experts of their own, blk.0.ffn_up.3.weight, may start as copies.
        return {role, role_of_other} not in _SHARED and re.sub(r"\d+", "", role) != re.sub(r"\d+", "", role_of_other)
    by_name = {survey.tensor.name: survey for survey in surveys}
    pairs = []
    for survey in surveys:
        if _parts(survey)[:2] == (prefix, layer) and survey is not one and not _uniform(gguf, survey):
            twin = by_name.get(f"{prefix}{layer_of_other}.{_parts(survey)[2]}")
            if twin is not None:
                pairs.append((survey, twin))
    if sum(_is_matrix(survey) for survey, _ in pairs) < _OTHERS:
        return False
    return not any(_same_bytes(gguf, survey, twin) for survey, twin in pairs)


def _uniform(gguf: Gguf, survey: Survey) -> bool:
    """Whether all blocks, or all weights, are the same."""
    size = survey.tensor.known_type.type_size
    raw = np.frombuffer(gguf.data, np.uint8, survey.tensor.known_nbytes // size * size, survey.tensor.start)
    blocks = raw.reshape(-1, size)
    step = max(1, CHUNK // size)
    with held(gguf.data, survey.tensor.start, survey.stop):
        return all((blocks[at : at + step] == blocks[0]).all() for at in range(0, len(blocks), step))


def _same_bytes(gguf: Gguf, one: Survey, other: Survey) -> bool:
    if one.tensor.nbytes != other.tensor.nbytes or one.tensor.type_id != other.tensor.type_id:
        return False
    return same_bytes(gguf, one.tensor.start, other.tensor.start, one.tensor.known_nbytes)


def same_bytes(gguf: Gguf, start: int, other: int, length: int) -> bool:
    """Whether two ranges of the file are equal, without a copy."""
    for at in range(0, length, CHUNK):
        n = min(CHUNK, length - at)
        one, two = (np.frombuffer(gguf.data, np.uint8, n, first + at) for first in (start, other))
        with held(gguf.data, start + at, start + at + n), held(gguf.data, other + at, other + at + n):
            if not np.array_equal(one, two):
                return False
    return True
