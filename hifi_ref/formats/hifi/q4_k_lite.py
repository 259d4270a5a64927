"""Q4_K_LITE: 256 weights in 128 bytes, 4 bits per weight: Q3_K, and seven corrections. See lite.py."""

from hifi_ref.formats import q3_k
from hifi_ref.formats.hifi import lite

LAYOUT, OUTLIERS, decode, encode, dot = lite.over(q3_k, "Q4_K_LITE", type_id=52, slots=7)
BY_MODEL_SIZE = True
ROW_SCOPED = True
