"""general.file_type: what it says of a file's tensors, and whether they are so."""

from __future__ import annotations

from collections import Counter

from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf

# general.file_type: its name, and the types that the reference quantizer may give most weights of such a file.
# The default type comes first.
FILE_TYPES: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("F32", ("F32",)),
    1: ("F16", ("F16", "F32")),
    2: ("Q4_0", ("Q4_0", "Q4_1")),
    3: ("Q4_1", ("Q4_1",)),
    7: ("Q8_0", ("Q8_0",)),
    8: ("Q5_0", ("Q5_0", "Q5_1")),
    9: ("Q5_1", ("Q5_1",)),
    10: ("Q2_K", ("Q2_K", "Q3_K", "Q4_K", "Q5_K")),
    11: ("Q3_K_S", ("Q3_K", "Q4_K", "Q5_K")),
    12: ("Q3_K_M", ("Q3_K", "Q4_K", "Q5_K")),
    13: ("Q3_K_L", ("Q3_K", "Q4_K", "Q5_K")),
    14: ("Q4_K_S", ("Q4_K", "Q5_K")),
    15: ("Q4_K_M", ("Q4_K", "Q5_K", "Q6_K")),
    16: ("Q5_K_S", ("Q5_K",)),
    17: ("Q5_K_M", ("Q5_K", "Q6_K")),
    18: ("Q6_K", ("Q6_K",)),
    19: ("IQ2_XXS", ("IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    20: ("IQ2_XS", ("IQ2_XS", "Q2_K", "Q4_K", "Q5_K")),
    21: ("Q2_K_S", ("Q2_K", "Q3_K", "Q4_K")),
    22: ("IQ3_XS", ("IQ3_S", "IQ3_XXS", "Q4_K", "Q5_K")),
    23: ("IQ3_XXS", ("IQ3_XXS", "IQ2_S", "IQ3_S", "Q3_K", "Q4_K", "Q5_K")),
    24: ("IQ1_S", ("IQ1_S", "IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    25: ("IQ4_NL", ("IQ4_NL", "Q5_K")),
    26: ("IQ3_S", ("IQ3_S", "Q4_K", "Q5_K")),
    27: ("IQ3_M", ("IQ3_S", "Q4_K", "Q5_K")),
    28: ("IQ2_S", ("IQ2_XS", "IQ3_S", "Q4_K", "Q5_K")),
    29: ("IQ2_M", ("IQ2_S", "IQ3_S", "Q4_K", "Q5_K")),
    30: ("IQ4_XS", ("IQ4_XS", "Q5_K")),
    31: ("IQ1_M", ("IQ1_M", "IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    32: ("BF16", ("BF16", "F16", "F32")),
    36: ("TQ1_0", ("TQ1_0",)),
    37: ("TQ2_0", ("TQ2_0",)),
    38: ("MXFP4_MOE", ("MXFP4", "Q8_0", "BF16", "F16")),
    39: ("NVFP4", ("NVFP4", "BF16", "F16")),
    40: ("Q1_0", ("Q1_0",)),
    41: ("Q2_0", ("Q2_0",)),
}
# The HIFI fork's, in files of its dialects.
HIFI_FILE_TYPES: dict[int, tuple[str, tuple[str, ...]]] = {
    44: ("Q4_K_HIFI", ("Q4_K_HIFI", "Q4_K", "Q5_K", "Q6_K", "Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8")),
    45: ("Q3_K_HIFI", ("Q3_K_HIFI", "Q4_K", "Q5_K", "Q6_K")),
    46: ("Q5_K_HIFI", ("Q5_K", "Q6_K", "Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8")),
    47: ("Q2_K_HIFI", ("Q2_K_HIFI", "Q2_K", "Q3_K", "Q4_K", "Q6_K")),
}
# These tensors are given types of their own.
OWN_TYPES = {"token_embd.weight", "per_layer_token_embd.weight", "output.weight"}
# Set in general.file_type where a reader has guessed it.
GUESSED = 1024


def check_file_type(gguf: Gguf, findings: Findings) -> None:
    """general.file_type must name a type that explains what most of the weights are stored as."""
    value = gguf.metadata.get("general.file_type")
    if value is None or gguf.data_start is None:
        return
    stated = value.integer
    if value.kind != "u32" or stated is None:
        message = f"general.file_type, at byte {value.start}, is of kind {value.kind}, not one u32"
        findings.add(Finding("G021", message, offset=value.start))
        return
    number = stated & ~GUESSED
    types = FILE_TYPES | (HIFI_FILE_TYPES if gguf.dialect.startswith("hifi") else {})
    if number not in types:
        message = f"general.file_type, at byte {value.start}, is {stated}, which stands for no file type in use"
        findings.add(Finding("G021", message, offset=value.start))
        return
    name, expected = types[number]
    default = next(t for t in DIALECTS[gguf.dialect].ids.values() if t.name == expected[0])
    weights: Counter[str] = Counter()
    for tensor in gguf.tensors:
        # One-dimensional tensors stay as they are; rows that the default type cannot hold take another.
        fits = len(tensor.shape) > 1 and tensor.shape[0] % default.block_size == 0
        if tensor.nbytes and fits and tensor.name not in OWN_TYPES:
            weights[tensor.known_type.name] += tensor.elements
    if not weights:
        return
    (most, n), total = weights.most_common(1)[0], weights.total()
    if most not in expected:
        message = f"general.file_type is {number} ({name}), but {n / total:.0%} of the weights in matrices are {most}"
        findings.add(Finding("G021", message, offset=value.start))


def file_type(gguf: Gguf) -> int | None:
    """The number that the file states, if any."""
    value = gguf.metadata.get("general.file_type")
    return value.integer if value is not None and value.kind == "u32" else None


def file_type_name(number: int) -> str | None:
    known = FILE_TYPES.get(number & ~GUESSED)
    return known[0] if known else None
