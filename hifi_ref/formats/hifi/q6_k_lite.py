"""Q6_K_LITE: 256 weights in 196 bytes, 6.125 bits per weight: Q5_K, and eight corrections. See lite.py."""

from hifi_ref.formats import q5_k
from hifi_ref.formats.hifi import lite

LAYOUT, OUTLIERS, decode, encode, dot = lite.over(q5_k, "Q6_K_LITE", type_id=54, slots=8)
BY_MODEL_SIZE = True
ROW_SCOPED = True
