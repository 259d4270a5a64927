"""Q6_K_HIFI_L: 256 weights in 235 bytes, 7.34375 bits per weight: Q6_K, and up to eight outliers as binary16.

    bytes   field   type     holds
    0-209   ...     Q6_K     the block without its outliers
    210     count   u8       slots in use
    211-218 at      u8[8]    positions of the outliers, largest first; 0 in slots without one
    219-234 values  f16[8]   the outliers; 0 in slots without one

    w[j] = values[k] for the last slot k < count with at[k] = j, else Q6_K's weight

The block that a roadmap of the HIFI fork describes, six outliers by default; the fork's own formats took its place, and
no program writes it, so it has no number in GGUF and all of it is defined here. Importance chooses the outliers and
goes to Q6_K too. A count above 8 means 8. The dot product is Q6_K's, whose final sum begins with value - weight of each
outlier times its activation.
"""

from __future__ import annotations

from hifi_ref.formats import q6_k
from hifi_ref.formats.hifi import replaced

LAYOUT, OUTLIERS, decode, encode, dot = replaced.over(q6_k, "Q6_K_HIFI_L", slots=8, default=lambda model_params: 6)
