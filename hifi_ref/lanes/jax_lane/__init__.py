"""The acceleration: the format files compiled by XLA, and everything that keeps them as exact as the definition.

* **Canary.** A back end is used once it has passed the probe of canary.py, without the operations that it gets wrong
  and that can be taken from it.
* **Underflow.** Back ends flush subnormal numbers. Products and quotients that come near them mark their blocks,
  which are encoded again by NumPy: at top level directly, inside a caller's jit through a callback that runs only if
  needed.
* **Speed.** Encoding runs over pieces of one shape, so that a format compiles once and needs no more memory for a
  larger tensor; decoding is one fusion written into a donated buffer.
"""

from hifi_ref.lanes.jax_lane.compiling import CPU_OPTIONS as CPU_OPTIONS
from hifi_ref.lanes.jax_lane.compiling import opaque as opaque
from hifi_ref.lanes.jax_lane.decoding import decode as decode
from hifi_ref.lanes.jax_lane.dots import dot as dot
from hifi_ref.lanes.jax_lane.encoding import encode as encode
from hifi_ref.lanes.jax_lane.encoding import encode_in_pieces as encode_in_pieces
