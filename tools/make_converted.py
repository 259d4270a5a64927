"""Write tests/data/converted.json: what convert_hf_to_gguf of llama.cpp makes of the checkpoints of the tests.

    python tools/make_converted.py LLAMA_CPP [NAME ...]

LLAMA_CPP is the source tree of the release, with convert_hf_to_gguf.py and the package `conversion`; torch and
transformers, as its requirements/requirements-convert_hf_to_gguf.txt names them, are needed beside this project's own.
Only the vocabulary is left out, which is none of the weights: instead of a tokenizer, each file gets a list of bytes.
With NAMEs only those checkpoints are converted anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "tests" / "data" / "converted.json"
VERSION = "v0.5.0"
# All in binary32, so that every tensor shows all of its bits; some of them also rounded.
# Tensors that come of functions whose last bits another library may write otherwise: their first numbers are kept.
COMPUTED = ("rope_freqs.weight", ".ssm_a")
ROUNDED = ("llama", "qwen3moe", "gemma2 f16", "llama f32")


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python tools/make_converted.py LLAMA_CPP [NAME ...]", file=sys.stderr)
        return 2
    tree = Path(sys.argv[1]).resolve()
    if not (tree / "conversion" / "__init__.py").is_file():
        print(f"{tree} holds no package conversion: it is no source tree of llama.cpp {VERSION}", file=sys.stderr)
        return 2
    # The converter brings its own gguf-py, which must come before the installed one.
    sys.path[:0] = [str(ROOT), str(tree / "gguf-py"), str(tree)]
    try:
        import gguf
        import torch
        import transformers
    except ImportError as error:
        print(f"{error}: the converter needs torch and transformers", file=sys.stderr)
        return 2
    from tests.checkpoint_models import CHECKPOINTS

    logging.disable(logging.WARNING)
    table = dict(gguf.TensorNameMap.block_mappings_cfg)
    written = json.loads(OUTPUT.read_text()) if OUTPUT.exists() and len(sys.argv) > 2 else {"checkpoints": {}}
    written |= {"llama.cpp": VERSION, "torch": torch.__version__, "transformers": transformers.__version__}
    for name in sys.argv[2:] or CHECKPOINTS:
        with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
            # gguf-py puts the names of some architectures into the table of all: each model gets it as it was.
            gguf.TensorNameMap.block_mappings_cfg = dict(table)
            types = ("f32", "f16", "bf16") if name in ROUNDED else ("f32",)
            written["checkpoints"][name] = {t: converted(Path(scratch), name, CHECKPOINTS[name], t) for t in types}
        print(f"{name}: {len(written['checkpoints'][name]['f32']['tensors'])} tensors", flush=True)
    OUTPUT.write_text(as_text(written))
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")
    return 0


def converted(scratch: Path, name: str, checkpoint: Any, outtype: str) -> dict[str, Any]:
    """What it writes: the metadata, but for names and vocabulary, and of each tensor its type, shape and SHA-256."""
    import gguf
    from conversion import ModelBase, get_model_architecture, get_model_class  # type: ignore[import-not-found]
    from conversion.base import ModelType  # type: ignore[import-not-found]

    from tests import checkpoints

    folder = checkpoints.write(scratch / "checkpoint", name, checkpoint)
    types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    hparams = ModelBase.load_hparams(folder, False)
    model_class = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    out = scratch / f"{outtype}.gguf"
    model = model_class(folder, gguf.LlamaFileType[types[outtype]], out)
    model.set_vocab = lambda: vocabulary(model.gguf_writer)
    model.write()
    reader = gguf.GGUFReader(out)
    metadata = {}
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.", "tokenizer.")):
            metadata[key] = [[int(kind) for kind in field.types], field.contents()]
    tensors = {}
    for tensor in reader.tensors:
        digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()
        numbers = [tensor.data.reshape(-1)[:16].tolist()] if tensor.name.endswith(COMPUTED) else []
        tensors[tensor.name] = [tensor.tensor_type.name, [int(n) for n in tensor.shape], digest, *numbers]
    return {"architecture": reader.fields["general.architecture"].contents(), "metadata": metadata, "tensors": tensors}


def vocabulary(writer: Any) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<0x{byte:02X}>" for byte in range(40)])


def as_text(written: dict[str, Any]) -> str:
    """JSON with one line for each tensor."""
    return json.dumps(written, sort_keys=True).replace('"], "', '"],\n "').replace(': {"', ':\n{"') + "\n"


if __name__ == "__main__":
    sys.exit(main())
