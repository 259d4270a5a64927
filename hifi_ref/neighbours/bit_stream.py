"""Codes of any width as one stream of bits in 32-bit words, from the low bits on: a code may lie in two words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Integer, UInt32

    from hifi_ref.exact import Array


def words(n: int, bits: int) -> int:
    """How many words n codes take."""
    return -(-n * bits // 32)


def pack(codes: Integer[Array, "*rows n"], bits: int) -> UInt32[Array, "*rows words"]:
    """Codes below 2^bits; the last word is filled with zeros."""
    lib = exact.library(codes)
    n = codes.shape[-1]
    codes_a_turn, words_a_turn = _turn(bits)
    q = codes.astype(np.uint32)
    if n % codes_a_turn:
        q = lib.pad(q, [(0, 0)] * (q.ndim - 1) + [(0, -n % codes_a_turn)])
    q = q.reshape(*q.shape[:-1], -1, codes_a_turn)
    made: list[Any] = [np.uint32(0)] * words_a_turn
    for i in range(codes_a_turn):
        word, shift = divmod(i * bits, 32)
        made[word] = made[word] | q[..., i] << np.uint32(shift)
        if shift + bits > 32:
            made[word + 1] = made[word + 1] | q[..., i] >> np.uint32(32 - shift)
    stream = lib.stack(made, axis=-1)
    return stream.reshape(*stream.shape[:-2], -1)[..., : words(n, bits)]


def unpack(stream: Integer[Array, "*rows words"], bits: int, n: int) -> UInt32[Array, "*rows n"]:
    """The inverse: n codes of each row."""
    lib = exact.library(stream)
    codes_a_turn, words_a_turn = _turn(bits)
    u = stream.astype(np.uint32)
    if u.shape[-1] % words_a_turn:
        u = lib.pad(u, [(0, 0)] * (u.ndim - 1) + [(0, -u.shape[-1] % words_a_turn)])
    u = u.reshape(*u.shape[:-1], -1, words_a_turn)
    codes = []
    for i in range(codes_a_turn):
        word, shift = divmod(i * bits, 32)
        code = u[..., word] >> np.uint32(shift)
        if shift + bits > 32:
            code = code | u[..., word + 1] << np.uint32(32 - shift)
        codes.append(code & np.uint32((1 << bits) - 1))
    q = lib.stack(codes, axis=-1)
    return q.reshape(*q.shape[:-2], -1)[..., :n]


def _turn(bits: int) -> tuple[int, int]:
    """After how many codes, and words, the pattern begins anew."""
    common = math.gcd(bits, 32)
    return 32 // common, bits // common
