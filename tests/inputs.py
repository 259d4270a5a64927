"""The hard inputs of hifi_ref, which the package itself judges other implementations by."""

from hifi_ref.hard_inputs import (
    FAMILIES,
    LARGEST,
    all_weights,
    any_bits,
    importance,
    importance_kinds,
    partner_of,
    random_blocks,
    same_floats,
    scale_blocks,
    tame_scales,
    weights,
)

__all__ = [
    "FAMILIES", "LARGEST", "all_weights", "any_bits", "importance", "importance_kinds", "partner_of", "random_blocks",
    "same_floats", "scale_blocks", "tame_scales", "weights",
]  # fmt: skip
