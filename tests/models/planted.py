"""A super weight planted in a small llama: one weight of blk.0.ffn_down whose input is large.

The rows of ffn_gate and ffn_up that make the input are raised, so that the product of the two stands out of everything
that the model computes, and all that follows depends on it.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.models import small

TENSOR, ROW, COLUMN, VALUE = "blk.0.ffn_down.weight", 17, 201, 3.0
# The column beside it, whose input is nothing: a much larger weight there takes the codes of the block.
BESIDE, LARGER = 202, 54.4


def write(path: Path, value: float = VALUE, raised: float = 12.0) -> Path:
    """The model, as F32. ``raised``: how many times the rows before it are as large; 1 and a value of 0.03 for none."""
    kind = small.MODELS["llama"]
    writer = gguf.GGUFWriter(path, kind.architecture)
    for key, entry in [*small.numbers(kind), *small.vocabulary(kind.pre)]:
        small._add(writer, key, entry)
    for name, made in small.tensors(kind, 0):
        values = np.array(made)
        if name in ("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"):
            values[COLUMN] *= raised
            values[BESIDE] = 0
        if name == TENSOR:
            # The others of the column are small, as they are in models that were trained.
            values[:, COLUMN] = np.clip(values[:, COLUMN], -0.02, 0.02)
            values[ROW, COLUMN], values[ROW, BESIDE] = value, LARGER
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
