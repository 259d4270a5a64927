"""What a tensor's bytes may hold: finite scales, and codes that the format's encoder can write.

The finite-scale rule needs no table: every f16 and f32 field of a block's Layout is a scale or a sum scaled by one.
The rules for bytes stand in BYTE_RULES. Everything runs over chunks, so memory does not grow with the tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import release
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_model import CHUNK, Gguf, Tensor, note
from hifi_ref.model_files.tensor_types import TensorType, is_defined

# The exponent bits of each float type: all ones in NaN and infinity and nowhere else.
EXPONENTS = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F80_0000, "f64": 0x7FF0_0000_0000_0000}

# Floats are read as words of their size: their bits are what is looked at.
WORDS = {"u8": "u1", "i8": "u1", "u16": "u2", "i16": "u2", "f16": "u2", "bf16": "u2", "f32": "u4", "f64": "u8"}

# Tensor types that are one float a weight.
FLOAT_TYPES = {"F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64"}


@dataclass(frozen=True)
class ByteRule:
    """Bytes of ``field`` that are marked in ``illegal``, bool[256], are findings of ``code``."""

    field: str
    code: str
    illegal: np.ndarray
    reason: str


def _only(*values: int) -> np.ndarray:
    illegal = np.zeros(256, bool)
    illegal[list(values)] = True
    return illegal


def _pair_of_three() -> np.ndarray:
    """Bytes with a 2-bit code of 3 among their four."""
    byte = np.arange(256)
    return np.logical_or.reduce([byte >> shift & 3 == 3 for shift in (0, 2, 4, 6)])


def _no_trits(step: int) -> np.ndarray:
    """Bytes that are no ceil(256 v / 243), v a multiple of ``step`` below 243: trits are kept as a binary fraction."""
    legal = -(-256 * np.arange(0, 243, step) // 243)
    illegal = np.ones(256, bool)
    illegal[legal] = False
    return illegal


_LOWEST = "-128, but the encoder writes -127 to 127"
_THREE = "a code of 3 is in it, but the encoder writes 0 to 2"
_TRITS = "trits that the encoder writes never pack to it"

BYTE_RULES: dict[str, tuple[ByteRule, ...]] = {
    "Q2_0": (ByteRule("qs", "P005", _pair_of_three(), _THREE),),
    "Q8_0": (ByteRule("qs", "P005", _only(0x80), _LOWEST),),
    "Q8_1": (ByteRule("qs", "P005", _only(0x80), _LOWEST),),
    "Q8_K": (ByteRule("qs", "P005", _only(0x80), _LOWEST),),
    "TQ1_0": (
        ByteRule("qs", "P005", _no_trits(1), _TRITS),
        # The last byte row packs four trits, and a zero as the fifth.
        ByteRule("qh", "P005", _no_trits(3), _TRITS),
    ),
    "TQ2_0": (ByteRule("qs", "P005", _pair_of_three(), _THREE),),
    "MXFP4": (ByteRule("e", "P003", _only(0xFF), "NaN in E8M0"),),
    "NVFP4": (
        ByteRule("d", "P004", _only(0x7F, 0xFF), "NaN in E4M3"),
        ByteRule("d", "P005", _only(*range(0x80, 0xFF)), "its sign bit is set, but the encoder never sets it"),
    ),
}

_NO_ROOM = "the block has no room for so many outliers"
_PADDING = "padding that the fork sets to 0; ports of its formats keep a count there and read other weights"


def _counts(most: int, mask: int = 0xFF) -> ByteRule:
    return ByteRule("count", "P007", (np.arange(256) & mask) > most, _NO_ROOM)


# Formats of the HIFI fork. Where it never writes the padding, that may hold anything.
_ZERO_PADDING = ByteRule("pad", "P005", np.arange(256) > 0, _PADDING)
HIFI_RULES: dict[str, tuple[ByteRule, ...]] = {
    "Q2_K_HIFI": (_counts(3, 0x7F), _ZERO_PADDING),
    "Q3_K_HIFI": (_ZERO_PADDING,),
    "Q6_K_HIFI_DYNAMIC": (_counts(8), _ZERO_PADDING),
    "Q3_K_HIFI_RES8": (_counts(8), _ZERO_PADDING),
    "Q6_K_HIFI_RES8": (_counts(8), _ZERO_PADDING),
    "Q5_K_HIFI_RES8": (_counts(8),),
    "Q2_K_LITE": (_counts(4),),
    "Q3_K_LITE": (_counts(8),),
    "Q4_K_LITE": (_counts(7),),
    "Q5_K_LITE": (_counts(8),),
    "Q6_K_LITE": (_counts(8),),
}


@dataclass
class _Check:
    """One rule for one field, and what it has found so far.

    ``find`` takes words[n], or words[n, count] of a field with several, and marks the bad ones; ``describe`` puts one
    into words.
    """

    code: str
    field: str
    find: Callable[[np.ndarray], np.ndarray]
    describe: Callable[[int], str]
    blocks: int = 0
    first: int = -1

    def look(self, words: np.ndarray, block: int) -> None:
        """Look at a chunk that starts at ``block``."""
        bad = self.find(words[self.field])
        if not bad.any():
            return
        rows = bad if bad.ndim == 1 else bad.any(axis=1)
        if not self.blocks:
            self.first = block + int(rows.argmax())
        self.blocks += int(np.count_nonzero(rows))


def check_payload(
    gguf: Gguf, tensor: Tensor, findings: Findings, progress: Callable[[int], object], hole: bool = False
) -> None:
    """Hold every block of a readable tensor against its format's rules. ``progress`` is called with bytes done.

    ``hole``: all its bytes are zero, which breaks no rule.
    """
    kind, nbytes = tensor.known_type, tensor.known_nbytes
    if not is_defined(kind):
        note(findings, tensor, "D003", f"the format {kind.name} is not defined here", offset=tensor.start)
    checks = _checks(kind)
    if hole or not checks:
        progress(nbytes)
        return
    words = gguf.blocks(tensor).reshape(-1).view(_words(kind.name, gguf.order))
    step = max(1, CHUNK // kind.type_size)
    released = tensor.start
    for at in range(0, len(words), step):
        part = words[at : at + step]
        for check in checks:
            check.look(part, at)
        progress(part.nbytes)
        done = tensor.start + at * kind.type_size + part.nbytes
        if done - released >= 16 * CHUNK:
            release(gguf.data, released, done)
            released = done
    release(gguf.data, released, tensor.start + nbytes)
    for check in checks:
        if check.blocks:
            _report(tensor, words, check, findings)


def _words(name: str, order: str) -> np.dtype:
    """A block as a record of unsigned words in the file's byte order."""
    if name in FLOAT_TYPES:
        return np.dtype([("weight", order + WORDS[FLOAT_TYPES[name]])])
    fields = {field.name: (field.dtype, field.count) for field in FORMATS[name].layout.fields}
    if name == "IQ1_M":
        fields["scales"] = ("u16", 4)
    record = [(field, order + WORDS[dtype], (count,) if count > 1 else ()) for field, (dtype, count) in fields.items()]
    return np.dtype(record)


def _checks(kind: TensorType) -> list[_Check]:
    name = kind.name
    if name in FLOAT_TYPES:
        return [_finite("P002", "weight", FLOAT_TYPES[name])]
    if name not in FORMATS or not is_defined(kind):
        return []
    checks = [_finite("P001", f.name, f.dtype) for f in FORMATS[name].layout.fields if f.dtype in EXPONENTS]
    if name == "IQ1_M":
        checks.append(_Check("P001", "scales", _iq1_m_non_finite, lambda word: "holds a top nibble of a non-finite d"))
    return checks + [_legal(rule) for rule in (*BYTE_RULES.get(name, ()), *HIFI_RULES.get(name, ()))]


def _finite(code: str, field: str, dtype: str) -> _Check:
    exponent = EXPONENTS[dtype]
    # The mantissa lies below the exponent; an infinity's is zero.
    mantissa = (exponent & -exponent) - 1

    def find(words: np.ndarray) -> np.ndarray:
        # The mask in the words' own byte order: the constant is swapped, not the data.
        mask = np.array(exponent, words.dtype).view(words.dtype.newbyteorder("="))
        return (words.view(mask.dtype) & mask) == mask

    return _Check(code, field, find, lambda word: "is NaN" if word & mantissa else "is infinite")


def _iq1_m_non_finite(words: np.ndarray) -> np.ndarray:
    """u16[n, 4] -> bool[n]. The bits of d are the words' top nibbles, the first word's lowest."""
    nibbles = words >> 12
    d = nibbles[:, 0] | nibbles[:, 1] << 4 | nibbles[:, 2] << 8 | nibbles[:, 3] << 12
    return d & EXPONENTS["f16"] == EXPONENTS["f16"]


def _legal(rule: ByteRule) -> _Check:
    values = np.flatnonzero(rule.illegal)

    def find(words: np.ndarray) -> np.ndarray:
        # A comparison is three times as fast as a table.
        return words == values[0] if len(values) == 1 else rule.illegal.take(words)

    return _Check(rule.code, rule.field, find, lambda word: f"is {word:#04x}: {rule.reason}")


def _report(tensor: Tensor, words: np.ndarray, check: _Check, findings: Findings) -> None:
    """Tell of the first bad block which word it is, where it lies, and how many others are like it."""
    word = words[check.first : check.first + 1][check.field]
    i = int(check.find(word).argmax())
    fields = words.dtype.fields
    assert fields is not None
    in_block = fields[check.field][1] + i * word.dtype.itemsize
    offset = tensor.start + check.first * tensor.known_type.type_size + in_block
    item = f"{check.field}[{i}]" if word.size > 1 else check.field
    unit = "weight" if check.field == "weight" else "block"
    place = f"weight {check.first}" if unit == "weight" else f"field {item} of block {check.first}"
    others = f" (the first of {check.blocks} such {unit}s)" if check.blocks > 1 else ""
    message = f"{place}, at byte {offset}, {check.describe(int(word.reshape(-1)[i]))}{others}"
    note(findings, tensor, check.code, message, field=check.field, block=check.first, offset=offset, count=check.blocks)
