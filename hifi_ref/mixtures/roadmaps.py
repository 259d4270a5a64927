"""The mixes that the HIFI fork's roadmaps planned, and the fork did not follow. Sizes are in billions of parameters."""

from __future__ import annotations

from hifi_ref.mixtures.hifi import kind_of

# The roadmaps' mixes: the format of critical tensors and that of the others.
ROADMAP = {
    "Q3_K_HIFI": ("Q3_K_HIFI", "Q3_K"),
    "Q4_K_HIFI_M": ("Q4_K_HIFI", "Q4_K"),
    "Q4_K_HIFI_L": ("Q6_K_HIFI", "Q4_K_HIFI"),
}
# lm_head is called output in GGUF.
CRITICAL = ("output", "token_embd", "attn_v", "ffn_down", "ffn_gate")


def automatic_mix(size: float) -> str:
    """The roadmaps' mix for a model of this size: Q3_K_HIFI up to 2, Q4_K_HIFI_M up to 10, Q4_K_HIFI_L above."""
    return "Q3_K_HIFI" if size <= 2 else "Q4_K_HIFI_M" if size <= 10 else "Q4_K_HIFI_L"


def roadmap_format(mix: str, name: str) -> str:
    """The format of a tensor in one of ROADMAP's mixes: critical tensors keep their outliers, or more bits."""
    critical, other = ROADMAP[mix]
    return critical if kind_of(name) in CRITICAL else other
