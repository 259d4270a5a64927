"""Q5_K_LITE: 256 weights in 164 bytes, 5.125 bits per weight: Q4_K, and eight corrections. See lite.py."""

from hifi_ref.formats import q4_k
from hifi_ref.formats.hifi import lite

LAYOUT, OUTLIERS, decode, encode, dot = lite.over(q4_k, "Q5_K_LITE", type_id=53, slots=8)
BY_MODEL_SIZE = True
ROW_SCOPED = True
