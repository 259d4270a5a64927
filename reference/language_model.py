"""What the pinned release says of a language model: ids of texts, logits, and every node of the graph on the way.

It is asked in a child process, one for many questions. Setting: CPU variant x64, flash attention off, K/V cache F32, no
repacking, one sequence a batch, one thread; its bits depend on no thread and no batch.
"""

from __future__ import annotations

import ctypes as C
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reference.loader import ContextParams, _library

VARIANT = "x64"
DTYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.float16, 26: np.int32}
ERROR = 4
VIEWS = ("NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE")


class Question(NamedTuple):
    """``ids``: a sequence from position 0. ``texts``: (text in hex, special, parse). ``nodes``: "", "inputs" of the
    products with matrices, or "all" nodes of the graph."""

    path: str
    ids: Sequence[int] = ()
    texts: Sequence[tuple[str, bool, bool]] = ()
    nodes: str = ""


def ask(questions: Sequence[Question], variant: str = VARIANT) -> list[Mapping[str, np.ndarray]]:
    """For each question: "logits" f32[n, vocab]; "text 0", .. the ids of each text; and nodes. ``variant``: the CPU
    backend's build.

    Of the inputs: "NUMBER input NAME" float32[.., rows, columns], and for experts "NUMBER chosen NAME". Of all: "NUMBER
    OPERATION NAME". Axes are in the order of NumPy. Raises RuntimeError where the release cannot be asked.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "reference.language_model", folder, variant],
            cwd=Path(__file__).resolve().parent.parent, input=json.dumps(questions), text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the release could not be asked: {done.stderr.strip()[-500:]}")
        return [dict(np.load(Path(folder) / f"{i}.npz")) for i in range(len(questions))]


# IN THE CHILD


class Batch(C.Structure):
    """llama_batch of llama.h."""

    _fields_ = [
        ("n_tokens", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", C.c_void_p), ("pos", C.POINTER(C.c_int32)),
        ("n_seq_id", C.POINTER(C.c_int32)), ("seq_id", C.POINTER(C.POINTER(C.c_int32))),
        ("logits", C.POINTER(C.c_int8)),
    ]  # fmt: skip


class Node(C.Structure):
    """ggml_tensor of ggml.h."""


Node._fields_ = [
    ("type", C.c_int), ("buffer", C.c_void_p), ("ne", C.c_int64 * 4), ("nb", C.c_size_t * 4), ("op", C.c_int),
    ("op_params", C.c_int32 * 16), ("flags", C.c_int32), ("src", C.POINTER(Node) * 10), ("view_src", C.POINTER(Node)),
    ("view_offs", C.c_size_t), ("data", C.c_void_p), ("name", C.c_char * 64),
]  # fmt: skip
Callback = C.CFUNCTYPE(C.c_bool, C.POINTER(Node), C.c_bool, C.c_void_p)
LogCallback = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)


@LogCallback
def _log(level: int, text: bytes, _: Any) -> None:
    if level == ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def declared(variant: str) -> C.CDLL:
    llama = _library(variant)
    llama.llama_log_set(_log, None)
    p, i, b = C.c_void_p, C.c_int32, C.c_bool
    for name, result, arguments in (
        ("llama_model_get_vocab", p, [p]), ("llama_vocab_n_tokens", i, [p]), ("llama_free", None, [p]),
        ("llama_model_free", None, [p]), ("llama_decode", i, [p, Batch]), ("llama_batch_init", Batch, [i, i, i]),
        ("llama_batch_free", None, [Batch]), ("llama_get_logits_ith", C.POINTER(C.c_float), [p, i]),
        ("llama_get_memory", p, [p]), ("llama_memory_clear", None, [p, b]),
        ("llama_tokenize", i, [p, C.c_char_p, i, C.POINTER(i), i, b, b]),
    ):  # fmt: skip
        getattr(llama, name).restype, getattr(llama, name).argtypes = result, arguments
    return llama


def _array(node: Node) -> np.ndarray:
    """A copy of a tensor's values."""
    dtype = np.dtype(DTYPES[node.type])
    size = sum((n - 1) * step for n, step in zip(node.ne, node.nb, strict=True)) + dtype.itemsize
    raw = np.frombuffer(C.string_at(node.data, size), np.uint8)
    first = raw[: dtype.itemsize].view(dtype)
    return np.lib.stride_tricks.as_strided(first, tuple(node.ne)[::-1], tuple(node.nb)[::-1]).copy()


def _collector(kind: str, found: dict[str, np.ndarray]) -> Callable[[Node, str, bool], bool]:
    def weight(node: Node) -> str:
        name = node.src[0].contents.name.decode()
        return name.split("#")[1] if "#" in name else name

    def inputs(node: Node, op: str, asking: bool) -> bool:
        wanted = op == "MUL_MAT_ID" or op == "MUL_MAT" and weight(node).endswith(".weight")
        if not asking and wanted:
            name = f"{len(found):05}"
            found[f"{name} input {weight(node)}"] = _array(node.src[1].contents)
            if op == "MUL_MAT_ID":
                found[f"{name} chosen {weight(node)}"] = _array(node.src[2].contents)
        return wanted

    def everything(node: Node, op: str, asking: bool) -> bool:
        wanted = op not in VIEWS and node.type in DTYPES
        if not asking and wanted:
            found[f"{len(found):05} {op} {node.name.decode()}"] = _array(node)
        return wanted

    return inputs if kind == "inputs" else everything


@contextmanager
def opened(
    llama: C.CDLL, path: str, length: int, callback: Any = None, repack: bool = False
) -> Iterator[Callable[[Sequence[int]], np.ndarray]]:
    """A function of at most so many ids that returns their logits f32[n, vocab]."""
    model = _loaded(llama, path, repack)
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    settings: ContextParams = llama.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = length
    settings.n_threads = settings.n_threads_batch = 1
    settings.flash = settings.type_k = settings.type_v = 0
    settings.cb_eval = C.cast(callback, C.c_void_p) if callback else None
    context = llama.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit(f"the release makes no context of {length} ids for {path}")

    def decode(ids: Sequence[int]) -> np.ndarray:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for k, token in enumerate(ids):
            batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = token, k, 1, 1
            batch.seq_id[k][0] = 0
        if llama.llama_decode(context, batch):
            raise SystemExit(f"the release cannot decode {len(ids)} ids of {path}")
        places = range(len(ids))
        rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, k), (size,)).copy() for k in places]
        llama.llama_batch_free(batch)
        return np.stack(rows)

    yield decode
    llama.llama_free(context)
    llama.llama_model_free(model)


def _loaded(llama: C.CDLL, path: str, repack: bool = False) -> int:
    parameters = llama.llama_model_default_params()
    parameters.use_extra_bufts, parameters.n_gpu_layers = repack, 0
    model = llama.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise SystemExit(f"the release cannot load {path}")
    return model


def _answer(llama: C.CDLL, question: Question) -> dict[str, np.ndarray]:
    found = _texts(llama, question)
    if question.ids:
        nodes: dict[str, np.ndarray] = {}
        callback = _callback(question.nodes, nodes) if question.nodes else None
        with opened(llama, question.path, len(question.ids), callback) as decode:
            logits = decode(question.ids)
        found |= nodes | {"logits": logits}
    return found


def _texts(llama: C.CDLL, question: Question) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if not question.texts:
        return found
    model = _loaded(llama, question.path)
    vocabulary = llama.llama_model_get_vocab(model)
    for k, (text, special, parse) in enumerate(question.texts):
        raw = bytes.fromhex(text)
        out = (C.c_int32 * (len(raw) + 16))()
        n = llama.llama_tokenize(vocabulary, raw, len(raw), out, len(out), special, parse)
        found[f"text {k}"] = np.array(out[:n], np.int32)
    llama.llama_model_free(model)
    return found


def _callback(kind: str, nodes: dict[str, np.ndarray]) -> Any:
    collect = _collector(kind, nodes)
    base = C.CDLL("libggml-base.so")
    base.ggml_op_name.restype = C.c_char_p

    @Callback
    def callback(node: Any, asking: bool, _: Any) -> bool:
        return collect(node.contents, base.ggml_op_name(node.contents.op).decode(), asking) or not asking

    return callback


def _serve(folder: Path, variant: str) -> None:
    llama = declared(variant)
    for k, question in enumerate(json.load(sys.stdin)):
        np.savez(folder / f"{k}.npz", **_answer(llama, Question(*question)))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
