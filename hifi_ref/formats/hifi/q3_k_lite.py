"""Q3_K_LITE: 256 weights in 104 bytes, 3.25 bits per weight: Q2_K, and eight corrections. See lite.py."""

from hifi_ref.formats import q2_k
from hifi_ref.formats.hifi import lite

LAYOUT, OUTLIERS, decode, encode, dot = lite.over(q2_k, "Q3_K_LITE", type_id=51, slots=8)
BY_MODEL_SIZE = True
ROW_SCOPED = True
