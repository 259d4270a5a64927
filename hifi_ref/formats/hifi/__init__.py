"""Block formats that keep the outliers of a block beside a plain K format: a base, and an extension behind its bytes.

Three families, and the blocks of two early roadmaps:

* HIFI: the largest weights are stored as they are, or what the base lost of them (RES8);
* LITE: what the base lost most of, as eight-bit multiples of one scale;
* Q6_K_HIFI_L and Q4_HIFI, which no released program writes.

They come from a fork of llama.cpp, commit 1de093b32, whose bytes and bits are the definition here; the LITE formats
from a later commit of it. Each file names what the fork does wrong. What is shared stands in outliers.py and in the two
ways to use them, replaced.py and residual.py. docs/hifi.md tells what the formats are worth.
"""

FILES = """
    q2_k_hifi q3_k_hifi q4_k_hifi q6_k_hifi q6_k_hifi_dynamic
    q3_k_hifi_res8 q5_k_hifi_res8 q6_k_hifi_res8
    q2_k_lite q3_k_lite q4_k_lite q5_k_lite q6_k_lite
    q6_k_hifi_l q4_hifi
""".split()
