"""Q2_K_LITE: 256 weights in 96 bytes, 3 bits per weight: Q2_K, and four corrections. See lite.py."""

from hifi_ref.formats import q2_k
from hifi_ref.formats.hifi import lite

LAYOUT, OUTLIERS, decode, encode, dot = lite.over(q2_k, "Q2_K_LITE", type_id=50, slots=4)
BY_MODEL_SIZE = True
ROW_SCOPED = True
