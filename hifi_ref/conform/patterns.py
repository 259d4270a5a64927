"""General ways in which answers differ, for what is no known bug: the first that explains most of them is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref import api, exact
from hifi_ref.conform.cases import Case
from hifi_ref.conform.deviations import as_close
from hifi_ref.conform.judge import same
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Layout


class Pattern(NamedTuple):
    """holds(layout, case, observed) -> whether a wrong answer is of this kind."""

    kind: str
    operations: tuple[str, ...]
    says: str
    holds: Callable[[Layout, Case, np.ndarray], bool]


def _byte_order(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return bool((observed.view(np.uint32).byteswap() == case.expected.view(np.uint32)).all())


def _nothing(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return not observed.view(np.uint8).any()


def _left_out(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return bool((same(observed, case.expected) | (observed == 0)).all())


def _nan(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return bool((same(observed, case.expected) | np.isnan(observed) | np.isnan(case.expected)).all())


def _flushed(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    small = (abs(case.expected) < exact.SMALLEST_NORMAL) & (observed == 0)
    return bool((same(observed, case.expected) | small).all())


def _zero_sign(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return bool((same(observed, case.expected) | ((case.expected == 0) & (observed == 0))).all())


def _negated(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    wrong = ~same(observed, case.expected)
    if len(np.unique(abs(case.expected[wrong]))) < 2 and not wrong[case.expected != 0].all():
        # It may as well be one code
        return False
    return bool((same(observed, case.expected) | same(observed, -case.expected)).all())


def _binary16(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(same(observed, case.expected.astype(np.float16).astype(np.float32)).all())


def _bfloat16(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return bool(same(observed, np.asarray(exact.widen_bf16(exact.narrow_bf16(case.expected)))).all())


def _permuted(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    def ranked(values: np.ndarray) -> np.ndarray:
        return np.sort(values.view(np.uint32).reshape(-1, layout.block_size), axis=1)

    return bool((ranked(observed) == ranked(case.expected)).all())


def _permuted_bytes(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    def ranked(blocks: np.ndarray) -> np.ndarray:
        return np.sort(blocks.reshape(-1, layout.type_size), axis=1)

    return bool((ranked(observed) == ranked(case.expected)).all())


def _factor(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    usable = np.isfinite(observed) & np.isfinite(case.expected) & (case.expected != 0)
    if usable.sum() < 2:
        return False
    ratio = observed[usable].astype(np.float64) / case.expected[usable]
    return bool(abs(ratio - ratio[0]).max() <= 1e-6 * abs(ratio[0]) and ratio[0] != 0)


def _ulps(most: int) -> Callable[[Layout, Case, np.ndarray], bool]:
    def holds(layout: Layout, case: Case, observed: np.ndarray) -> bool:
        apart = abs(_number(observed) - _number(case.expected))
        return bool(np.isfinite(observed).all() and (apart <= most).all())

    return holds


def _code_minus_128(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    if layout.dot_with not in ("Q8_0", "Q8_1", "Q8_K"):
        return False
    partner = FORMATS[layout.dot_with].layout
    at, blocks = partner.offset("qs"), case.array("a").reshape(-1, partner.type_size)
    return bool((blocks[:, at : at + partner.block_size] == 128).any())


def _number(x: np.ndarray) -> np.ndarray:
    """Consecutive integers for consecutive binary32 numbers."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


CODES = ("qs", "qh", "ql", "hmask")


def _only_codes(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """The codes are other ones, and each weight is off by no more than the size of a rounding."""
    if layout.name not in FORMATS:
        return False
    # Of some formats these hold signs, scales or shifts as well
    holding = {field.name: field.holds for field in FORMATS[layout.name].layout.fields}
    codes = {name for name in CODES if not re.search("sign|scale|delta", holding.get(name, ""))}
    if not _wrong_fields(layout, case, observed) <= codes:
        return False
    with np.errstate(all="ignore"):
        got, right = (_decoded(layout.name, raw) for raw in (observed, case.expected))
        steps = [np.diff(np.unique(block[np.isfinite(block)])) for block in right]
        widest = np.array([step.max(initial=0) for step in steps])
        return bool((abs(got - right) <= 1.01 * widest[:, None]).all())


def _only_sums(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    return _wrong_fields(layout, case, observed) <= {"bsums", "s"}


def _decoded(name: str, raw: np.ndarray) -> np.ndarray:
    return api.decode(name, raw.reshape(-1, FORMATS[name].type_size), lane="numpy").astype(np.float64)


def _of_field(name: str) -> Callable[[Layout, Case, np.ndarray], bool]:
    """Each wrong weight is what other bytes of one field would give, of those that are all alike."""

    def holds(layout: Layout, case: Case, observed: np.ndarray) -> bool:
        if layout.name not in FORMATS or name not in layout.names:
            return False
        blocks = case.array("blocks").reshape(-1, layout.type_size)
        values = observed.reshape(len(blocks), -1)
        with np.errstate(all="ignore"):
            explained = same(values, _as_floats(layout.name, blocks))
            for byte in range(256):
                other = blocks.copy()
                other[:, layout.span(name)] = byte
                explained |= same(values, _as_floats(layout.name, other))
        return bool(explained.all())

    return holds


def _as_floats(name: str, blocks: np.ndarray) -> np.ndarray:
    return api.decode(name, blocks, lane="numpy")


def _scale_step(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """A binary16 or binary32 scale is one unit off in its last place."""
    found = False
    for field in layout.fields:
        if field.dtype in ("f16", "f32"):
            at, size = layout.offset(field.name), field.size // field.count
            parts = [raw.reshape(-1, layout.type_size)[:, at : at + field.size] for raw in (observed, case.expected)]
            got, right = (np.ascontiguousarray(part).view(f"<i{size}").astype(np.int64) for part in parts)
            if abs(got - right).max() > 1:
                return False
            found = found or bool((got != right).any())
    return found


def _zero_scale_sign(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    apart = (observed ^ case.expected).reshape(-1, layout.type_size)
    for field in layout.fields:
        if field.dtype in ("f16", "f32"):
            at, size = layout.offset(field.name), field.size // field.count
            last = slice(at + size - 1, at + field.size, size)
            numbers = observed.reshape(-1, layout.type_size)[:, at : at + field.size].reshape(len(apart), -1, size)
            zero = ((numbers[..., :-1] == 0).all(axis=-1)) & (numbers[..., -1] & 0x7F == 0)
            apart[:, last] &= np.where(zero, np.uint8(0x7F), np.uint8(0xFF))
    return not apart.any()


# Without importance their scale is computed, not searched.
NO_SEARCH = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
NEVER_A_SEARCH = ("Q1_0", "Q2_0", "Q8_0", "Q8_1", "Q8_K", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "F32", "F16", "BF16")


def _another_choice(layout: Layout, case: Case, observed: np.ndarray) -> bool:
    """A search that ends elsewhere, and as well; only where there is a search."""
    if layout.name in NEVER_A_SEARCH or (layout.name in NO_SEARCH and case.given["importance"] is None):
        return False
    return as_close(layout, case, observed)


def _wrong_fields(layout: Layout, case: Case, observed: np.ndarray) -> set[str]:
    wrong = (observed != case.expected).reshape(-1, layout.type_size).any(axis=0)
    return {layout.field_at(int(byte)).name for byte in np.flatnonzero(wrong)}


FLOATS = ("decode", "dot")
# Those with few values come first: they say more.
FIELDS = {
    "qh": "the high bits of the codes", "hmask": "the high bits of the codes", "signs": "the signs",
    "scales": "the scales of the sub-blocks", "scales_h": "the high bits of the scales",
    "scales_l": "the low bits of the scales", "e": "the exponent", "ql": "the low bits of the codes", "qs": "the codes",
}  # fmt: skip


def fields_say(names: Sequence[str]) -> str:
    """Of fields that explain what is wrong equally well."""
    fields = " or ".join(f"{name} ({FIELDS[name]})" for name in names)
    return f"What is read of the field {fields} is wrong: each wrong weight is what other bytes there give."


PATTERNS = (
    # Where all that is expected is a zero, its sign says more than that the answer is one
    Pattern("sign of zero", FLOATS, "Only the sign of zeros differs.", _zero_sign),
    Pattern("nothing written", ("decode", "encode", "dot"), "Every byte of the answer is 0.", _nothing),
    Pattern("byte order", FLOATS, "The bytes of each binary32 come in the opposite order.", _byte_order),
    Pattern("NaN", FLOATS, "Only NaN is handled otherwise.", _nan),
    Pattern("flush to zero", FLOATS, "Subnormal results are flushed to zero.", _flushed),
    Pattern("sign", FLOATS, "Signs are flipped, magnitudes are right.", _negated),
    Pattern("binary16 result", FLOATS, "Results are right, but rounded to binary16.", _binary16),
    Pattern("bfloat16 result", FLOATS, "Results are right, but rounded to bfloat16.", _bfloat16),
    Pattern(
        "code -128", ("dot",),
        "Activations have a code of -128, which no encoder writes; what negates them in 8 bits gives -128 again.",
        _code_minus_128,
    ),
    Pattern("left out", ("decode",), "Wrong weights are all 0: not written, or a sign or a code is lost.", _left_out),
    Pattern("order of elements", ("decode",), "Each block has the right weights, in another order.", _permuted),
    *(Pattern(f"field {name}", ("decode",), fields_say([name]), _of_field(name)) for name in FIELDS),
    Pattern(
        "constant factor", ("decode",),
        "The weights of each vector are the right ones times one factor: the scale is read, converted or multiplied "
        "otherwise.",
        _factor,
    ),
    Pattern("last bit", FLOATS, "Results are off by one in the last place: an operation rounds otherwise.", _ulps(1)),
    Pattern("last bits", FLOATS, "Results are off by a few in the last place: operations round otherwise.", _ulps(8)),
    Pattern("order of bytes", ("encode",), "Each block has the right bytes, in another order.", _permuted_bytes),
    Pattern("stored sums", ("encode",), "Codes and scales are right, the stored sums are not.", _only_sums),
    Pattern("rounding of codes", ("encode",), "Scales are right, codes are rounded otherwise.", _only_codes),
    Pattern("sign of zero", ("encode",), "Only the sign of a scale that is zero differs.", _zero_scale_sign),
    Pattern(
        "another choice", ("encode",),
        "The blocks decode to weights as close to the given ones as the reference's: a search or a rounding chooses "
        "otherwise, as with fused multiply-adds or another order of additions.",
        _another_choice,
    ),
    Pattern(
        "last bit of scale", ("encode",),
        "Scales are off by at most one in the last place: what they are computed from, or their narrowing, rounds "
        "otherwise.",
        _scale_step,
    ),
)  # fmt: skip
