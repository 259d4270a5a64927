"""The executable definition of every GGML block format: bit-exact encode, decode and dot, in NumPy and JAX.

>>> import numpy as np, hifi_ref as hr
>>> x = np.linspace(-1, 1, 256, dtype=np.float32)
>>> blocks = hr.encode("Q4_K", x)
>>> blocks.shape, hr.decode("Q4_K", blocks).shape
((144,), (256,))
"""

from hifi_ref.api import decode, dot, encode
from hifi_ref.dot_bound import DotBound, dot_exact
from hifi_ref.formats import FORMATS, Format
from hifi_ref.kernels.matmul import matmul

__all__ = ["FORMATS", "DotBound", "Format", "decode", "dot", "dot_exact", "encode", "matmul"]
__version__ = "0.1.0"
