"""A file of llama's shape with as many F16 weights as one wants, for what is to be timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hifi_ref.model_files.gguf_file import open_gguf
from tests.loading.models import Shape, build


def made(path: Path, weights: int) -> int:
    """Write a model of so many F16 weights at least; return how many it has."""
    one = build(Shape("llama", layers=1, embd=2048, heads=16, kv=4, head=128, ff=5632))
    layer = sum(int(np.prod(shape)) for name, (shape, _) in one.tensors.items() if name.startswith("blk."))
    model = build(Shape("llama", layers=-(-weights // layer), embd=2048, heads=16, kv=4, head=128, ff=5632))
    for name, (shape, _) in model.tensors.items():
        model.tensors[name] = (shape, "F16" if len(shape) > 1 else "F32")
    model.write(path)
    drawn = np.random.default_rng(0).standard_t(5, 1 << 22) * 0.02
    total = 0
    with open(path, "r+b") as file:
        for i, tensor in enumerate(open_gguf(path).tensors):
            numbers = np.roll(drawn, 977 * i).astype(np.float16 if tensor.type_name == "F16" else np.float32)
            file.seek(tensor.start)
            for left in range(tensor.elements, 0, -numbers.size):
                file.write(numbers[:left].tobytes())
            total += tensor.elements
    return total
