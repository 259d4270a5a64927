"""Write tests/data/sample.gguf: a tiny llama model with made weights, quantized by the pinned llama.cpp release.

    python -m tools.make_sample LIBRARY_DIR [OUTPUT]

LIBRARY_DIR holds the release's shared libraries, libllama among them. The same release writes the same bytes again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

from reference import quantizer

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "sample.gguf"
Q4_K_M = 15
WIDTH, HEADS, KEY_HEADS, LAYERS = 256, 4, 2, 2


def made_weights(seed: int, *shape: int) -> np.ndarray:
    """f32[shape] that look like weights: a triangle of spread 0.02, and one in some hundred far out.

    Integers and exact scaling only, so that every NumPy makes the same bits.
    """
    words = np.random.Generator(np.random.PCG64(seed)).bit_generator.random_raw(int(np.prod(shape)))
    parts = [(words >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)]
    body = parts[0] + parts[1] - parts[2] - parts[3]
    stretched = np.where(parts[3] % 100 == 0, 6 * body, body)
    return (stretched.astype(np.float32) * np.float32(2.0**-21)).reshape(shape)


def model_tensors(layers: int = LAYERS, rows: int = WIDTH) -> dict[str, np.ndarray]:
    """The model's tensors, f32, row-major: rows first. A loader wants WIDTH rows, the quantizer takes any number."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, WIDTH), "output.weight": (rows, WIDTH)}
    for layer in range(layers):
        narrow = rows * KEY_HEADS // HEADS
        for name, n in {"attn_q": rows, "attn_k": narrow, "attn_v": narrow, "attn_output": rows}.items():
            shapes[f"blk.{layer}.{name}.weight"] = (n, WIDTH)
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.{layer}.{name}.weight"] = (rows, WIDTH)
    tensors = {name: made_weights(seed, *shape) for seed, (name, shape) in enumerate(shapes.items())}
    norms = ["output_norm.weight"]
    norms += [f"blk.{layer}.{name}.weight" for layer in range(layers) for name in ("attn_norm", "ffn_norm")]
    return tensors | {name: np.ones(WIDTH, np.float32) for name in norms}


def write_model(path: Path, layers: int = LAYERS, rows: int = WIDTH) -> None:
    """Write the model in F32, with the metadata that the quantizer and a loader ask for."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("hifi_ref sample")
    writer.add_description("a tiny model with made weights")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(WIDTH)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<0x{byte:02X}>" for byte in range(WIDTH)])
    writer.add_token_scores([0.0] * WIDTH)
    writer.add_token_types([int(gguf.TokenType.BYTE)] * WIDTH)
    for name, tensor in model_tensors(layers, rows).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def importance() -> dict[str, np.ndarray]:
    """The importance of each column of each matrix, f32[WIDTH]."""
    columns = (np.arange(WIDTH) % 7 + 1).astype(np.float32)
    return {name: columns for name, tensor in model_tensors().items() if tensor.ndim > 1}


def quantize(
    library_dir: Path, source: Path, target: Path, file_type: int, threads: int = 1, weighted: bool = True
) -> int:
    """Run llama_model_quantize; return its status, 0 for success. The bytes do not depend on ``threads``.

    ``weighted``: with an importance matrix, which some types require.
    """
    rows = importance() if weighted else None
    return int(bool(quantizer.quantize(source, target, file_type, rows, folder=library_dir, nthread=threads).problem))


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print("usage: python -m tools.make_sample LIBRARY_DIR [OUTPUT]", file=sys.stderr)
        return 2
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else OUTPUT
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "sample-f32.gguf"
        write_model(source)
        status = quantize(Path(sys.argv[1]), source, output, Q4_K_M)
    if status:
        print(f"llama_model_quantize failed with status {status}", file=sys.stderr)
        return 1
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
