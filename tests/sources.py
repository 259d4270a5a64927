"""Files to compare with: importance matrices, safetensors, a small model in each, and files of the other byte order."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

from tools import make_sample

HF_NAMES = {
    "token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def write_imatrix(path: Path, rows: dict[str, np.ndarray], calls: int = 4) -> None:
    """The GGUF form: sums over so many calls."""
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["wiki.train.raw"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, row in rows.items():
        writer.add_tensor(f"{name}.in_sum2", row.reshape(1, -1) * np.float32(calls))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), calls, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def big_endian(little: Path, path: Path) -> Path:
    """Write a GGUF with the byte order turned around, by gguf-py's own converter."""
    shutil.copy(little, path)
    command = [sys.executable, "-m", "gguf.scripts.gguf_convert_endian", str(path), "big"]
    subprocess.run(command, input="YES\n", text=True, check=True, capture_output=True)
    return path


def dat_imatrix(rows: dict[str, np.ndarray], calls: int = 4) -> bytes:
    """The older form."""
    out = struct.pack("<i", len(rows))
    for name, row in rows.items():
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, row.size)
        out += (row * np.float32(calls)).astype("<f4").tobytes()
    return out + struct.pack("<ii", 7, 14) + b"wiki.train.raw"


def safetensors(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """A file of tensors: name -> dtype, shape, bytes."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(data for _, _, data in tensors.values())


def hf_name(name: str) -> str:
    """The name that the sample's tensors have in a checkpoint of transformers."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.weight"
    return f"{HF_NAMES[parts[0]]}.weight"


def halved(rows: np.ndarray, heads: int) -> np.ndarray:
    """The order in which transformers keeps the rows of q and k, from the order that llama.cpp has."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def checkpoint(layers: int = 1, rows: int = 256, halve: bool = True) -> dict[str, np.ndarray]:
    """The sample model as transformers names it, and orders it where ``halve``."""
    heads = {"attn_q": make_sample.HEADS, "attn_k": make_sample.KEY_HEADS}
    tensors = {}
    for name, x in make_sample.model_tensors(layers, rows).items():
        kind = name.split(".")[-2]
        tensors[hf_name(name)] = halved(x, heads[kind]) if halve and kind in heads else x
    return tensors


def as_dtype(x: np.ndarray, dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """An entry for `safetensors`: F32, F16 or BF16, rounded to even."""
    if dtype == "BF16":
        return dtype, x.shape, gguf.quants.quantize(x, gguf.GGMLQuantizationType.BF16).tobytes()
    return dtype, x.shape, x.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
