"""The C library's float functions, element by element: the release calls these very functions.

Their last bits belong to the C library of the machine, not to IEEE-754: docs/models.md says with which one the
recorded bits were made, and what differs elsewhere.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32


@functools.cache
def _function(name: str, arguments: int) -> Callable[..., float]:
    library = ctypes.CDLL(ctypes.util.find_library("m") or None)
    function = getattr(library, name)
    function.argtypes, function.restype = [ctypes.c_float] * arguments, ctypes.c_float
    return function


def _each(name: str, x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    function = _function(name, 1)
    return np.array([function(value) for value in x.ravel().tolist()], np.float32).reshape(x.shape)


def cos(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """cosf"""
    return _each("cosf", x)


def sin(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """sinf"""
    return _each("sinf", x)


def tanh(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """tanhf"""
    return _each("tanhf", x)


def exp(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """expf"""
    return _each("expf", x)


def power(base: float, exponent: float) -> np.float32:
    """powf"""
    return np.float32(_function("powf", 2)(float(np.float32(base)), float(np.float32(exponent))))


def version() -> str:
    """The C library here, such as "glibc 2.36"."""
    return " ".join(platform.libc_ver()) or platform.system()
