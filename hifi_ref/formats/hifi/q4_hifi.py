"""Q4_HIFI: 256 weights in 193 bytes, 6.03125 bits per weight: Q4_K, and up to sixteen outliers as binary16.

    bytes   field   type     holds
    0-143   ...     Q4_K     the block without its outliers
    144     count   u8       slots in use
    145-160 at      u8[16]   positions of the outliers, largest first; 0 in slots without one
    161-192 values  f16[16]  the outliers; 0 in slots without one

    w[j] = values[k] for the last slot k < count with at[k] = j, else Q4_K's weight

The block that the first roadmap of the HIFI fork describes. Its count grows with the model: 8 outliers up to one
billion parameters, 10 up to thirty, 16 above; twice as many for tensors with massive outliers, as far as slots go.
No program writes it, so it has no number in GGUF and all of it is defined here, as for Q6_K_HIFI_L. The roadmap's own
dot product adds outliers without taking away the base's weight, calls Q4_K's kernel once a weight, and reads the
activations' scale as binary16, though it is binary32.
"""

from __future__ import annotations

from hifi_ref.formats import q4_k
from hifi_ref.formats.hifi import replaced

SLOTS = 16


def outlier_count(model_params: float | None, massive: bool = False) -> int:
    """Outliers per block for a model of so many billion parameters; as up to one billion where that is not known."""
    size = model_params or 0
    normal, many = (8, 16) if size <= 1 else (10, 20) if size <= 30 else (16, 32)
    return min(many if massive else normal, SLOTS)


LAYOUT, OUTLIERS, decode, encode, dot = replaced.over(q4_k, "Q4_HIFI", SLOTS, outlier_count)
BY_MODEL_SIZE = True
