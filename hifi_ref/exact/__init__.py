"""Binary32 arithmetic that no compiler may rewrite: one text, two lanes.

Every function takes arrays of either library and answers in the same one: ``numpy.ndarray`` in, NumPy out (the
definition: each operation rounds once, subnormals are kept, nothing is fused); ``jax.Array`` in, JAX out (the
acceleration: the same bits, but where it marks that they are not guaranteed). This module never imports jax.

Three things an optimising compiler does to exact arithmetic, and what stands against each:

* It fuses ``a*b + c`` into one rounding. ``mul`` **seals** its product: the bits are XORed with a zero before they
  meet an add. The zero is ``operand == one particular NaN``: false for every value that arithmetic produces, and
  harmless where true (the product is then a NaN anyway), but no compiler can prove it false, at top level or inside a
  caller's ``jax.jit``.
* It turns ``a / b`` into ``a * (1/b)`` where b is a constant or a broadcast. ``div`` seals the divisor per element, and
  the quotient, so that chains such as ``(a/b)/c`` stay two divisions. GPUs and TPUs divide and take roots with an error
  of a unit or two: there ``by_hand`` puts whole-number arithmetic in their place.
* It flushes subnormals to zero (XLA:CPU and TPU do). No seal helps; products and quotients are watched (watch.py), and
  blocks in which one came near the range below 2^-126 go to NumPy.

Profiles: ``a*b + c`` rounds twice ("strict"), as in llama.cpp's x86-64 release. Each in the formats is written with
``madd``, ``mul`` or ``product``, so that the fused profiles have one seam (profiles.py); ``score`` is never added.
"""

from hifi_ref.exact.arithmetic import (  # fmt: skip
    div,
    madd,
    mul,
    mul_int,
    product,
    ratio,
    reciprocal_or_zero,
    score,
    sealed_by,
    sqrt,
)
from hifi_ref.exact.bit_patterns import SMALLEST_NORMAL, bits, exponent, f32, from_bits, hidden_zero, i16, i32
from hifi_ref.exact.corrections import by_hand, is_by_hand
from hifi_ref.exact.conversions import (  # fmt: skip
    narrow_bf16,
    narrow_f16,
    round_f16,
    widen_bf16,
    widen_e8m0_half,
    widen_f16,
    widened,
    widen_ue4m3_half,
)
from hifi_ref.exact.fusing import Fusing, UnknownBlocks, fusing, fusing_now, is_arm64, is_unguarded
from hifi_ref.exact.lanes import (  # fmt: skip
    Array,
    Operand,
    faster_texts,
    has_faster_text,
    is_for_cpu,
    is_jax,
    is_traced,
    library,
    made_for,
)
from hifi_ref.exact.loops import (  # fmt: skip
    columns,
    fold,
    held,
    largest,
    pair,
    rows,
    unmarked_fold,
    unpair,
    wall,
    with_row,
    zero_of_turns,
)
from hifi_ref.exact.profiles import rounded
from hifi_ref.exact.rounding import as_int8, at_most, low_of_long, nearest_int, round_half_away, rounded_code, truncate
from hifi_ref.exact.sums import float_dot, int_dot, running_sums, sum_in_order, sum_of_rows, zeros_to_add_to
from hifi_ref.exact.watch import (  # fmt: skip
    FAINT,
    FLOOR,
    any_of,
    blocks_marked,
    is_watching,
    mark,
    unwatched,
    watched_input,
    watching,
)
