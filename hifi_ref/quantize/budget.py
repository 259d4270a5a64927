"""The file type for a size: the one of llama-quantize's whose file is the largest that is not above it.

Types that are made for models trained for them are never chosen, and without importance none that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hifi_ref.commands.command_line import UsageError
from hifi_ref.mixtures import llama_quantize
from hifi_ref.model_files.files import InputError
from hifi_ref.quantize.as_released import as_released
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.options import Options
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source

# For weights of two or three values, of experts in MXFP4, and of the like.
OF_SPECIAL_MODELS = ("Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4_MOE")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def file_size(files: Sequence[NewFile]) -> float:
    """Bytes of files, all in all."""
    return sum(file.size for file in files)


def bits_per_weight(files: Sequence[NewFile]) -> float:
    """Bits of the tensors' data for each weight of the files, metadata left aside."""
    plans = [plan for file in files for plan in file.plans]
    return sum(plan.nbytes for plan in plans) * 8 / max(1, sum(plan.tensor.elements for plan in plans))


def bytes_of(text: str) -> float:
    """ "4.5G", "4500M", "4GiB" or a number of bytes. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise UsageError(f"--target-size={text} is no size, such as 4.5G, 800M or 4GiB")
    return float(found[1]) * _UNITS[found[2]]


def bits_of(text: str) -> float:
    """ "4.8". Raises UsageError."""
    try:
        bits = float(text)
    except ValueError:
        bits = 0.0
    if not 0 < bits < float("inf"):
        raise UsageError(f"--target-bpw={text} is no number of bits")
    return bits


def fitting(
    source: Source,
    limit: float,
    measure: Callable[[Sequence[NewFile]], float],
    importance: Importance | None,
    options: Options,
) -> str:
    """The file type whose files measure most, and not above the limit; of equals the one named last in llama.cpp.

    Raises InputError where none is so small.
    """
    sizes: dict[str, float] = {}
    refused = InputError("no file type is left")
    for name in llama_quantize.file_types():
        if name in OF_SPECIAL_MODELS:
            continue
        try:
            files = as_released(source, "", name, importance, options)
        except InputError as error:
            refused = error
            continue
        if not any(file.lacking for file in files):
            sizes[name] = measure(files)
    if not sizes:
        raise refused
    fits = [name for name in sizes if sizes[name] <= limit]
    if not fits:
        least = min(sizes, key=sizes.__getitem__)
        raise InputError(f"nothing is so small: the least is {least}, with {sizes[least]:.12g}")
    return max(reversed(fits), key=sizes.__getitem__)
