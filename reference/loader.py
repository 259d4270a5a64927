"""Does the pinned release load a file? Asked of libllama itself, in a child process a file, since it may abort.

A file loads where `llama_model_load_from_file` and then `llama_init_from_model` succeed, both with the library's own
parameters, on the CPU: nothing is computed. `python -m reference.loader FILE...` prints an answer for each.
"""

from __future__ import annotations

import ctypes as C
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from reference.fetch import library_dir

# Far more than a small model needs; an absurd size fails alike on every machine.
MEMORY = 8 << 30
SECONDS = 60
STAGES = ("loads", "model", "context", "adapter")


class Outcome(NamedTuple):
    """``stage`` is what failed, "model", "context" or "adapter", or "loads"; ``message`` is the library's complaint."""

    stage: str
    message: str

    @property
    def loads(self) -> bool:
        return self.stage == "loads"


class ModelParams(C.Structure):
    """llama_model_params of llama.h."""

    _fields_ = [
        ("devices", C.c_void_p), ("overrides", C.c_void_p), ("n_gpu_layers", C.c_int32), ("split_mode", C.c_int),
        ("load_mode", C.c_int), ("lazy_mode", C.c_int), ("main_gpu", C.c_int32), ("tensor_split", C.c_void_p),
        ("progress", C.c_void_p), ("progress_data", C.c_void_p), ("kv_overrides", C.c_void_p),
        ("vocab_only", C.c_bool), ("check_tensors", C.c_bool), ("use_extra_bufts", C.c_bool), ("no_host", C.c_bool),
        ("no_alloc", C.c_bool), ("load_mtp", C.c_bool),
    ]  # fmt: skip


class ContextParams(C.Structure):
    """llama_context_params of llama.h: only its first fields are looked at, and the whole is handed back."""

    _fields_ = (
        [(k, C.c_uint32) for k in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_out", "n_out_per_seq")]
        + [
            (k, C.c_int32)
            for k in ("n_threads", "n_threads_batch", "ctx_type", "rope", "pooling", "attention", "flash")
        ]
        + [(k, C.c_float) for k in ("freq_base", "freq_scale", "yarn_ext", "yarn_attn", "beta_fast", "beta_slow")]
        + [("yarn_orig_ctx", C.c_uint32), ("defrag", C.c_float), ("cb_eval", C.c_void_p), ("cb_data", C.c_void_p)]
        + [("type_k", C.c_int), ("type_v", C.c_int), ("abort", C.c_void_p), ("abort_data", C.c_void_p)]
        + [(k, C.c_bool) for k in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")]
        + [("samplers", C.c_void_p), ("n_samplers", C.c_size_t), ("ctx_other", C.c_void_p)]
    )


def outcomes(
    paths: Iterable[str | os.PathLike[str]],
    variant: str = "x64",
    vocab_only: bool = False,
    adapted: str | os.PathLike[str] | None = None,
) -> list[Outcome]:
    """What the release says of each file; of a sharded model its first file is given.

    Args:
        variant: the CPU backend's build.
        vocab_only: whether to ask for the vocabulary alone.
        adapted: a model that each file is a LoRA adapter of.
    """
    model = None if adapted is None else os.fspath(adapted)
    asked = {"paths": [os.fspath(path) for path in paths], "vocab_only": vocab_only, "adapted": model}
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "reference.loader", "--serve", variant], cwd=Path(__file__).resolve().parent.parent,
        input=json.dumps(asked), capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the release could not be asked: {done.stderr.strip()[-300:]}")
    return [Outcome(*answer) for answer in json.loads(done.stdout)]


def _library(variant: str) -> C.CDLL:
    folder = library_dir()
    C.CDLL(str(folder / "libggml-base.so"), mode=C.RTLD_GLOBAL)
    ggml = C.CDLL(str(next(folder.glob("libggml.v*.so"))), mode=C.RTLD_GLOBAL)
    llama = C.CDLL(str(next(folder.glob("libllama.v*.so"))), mode=C.RTLD_GLOBAL)
    ggml.ggml_backend_load.argtypes, ggml.ggml_backend_load.restype = [C.c_char_p], C.c_void_p
    if not ggml.ggml_backend_load(str(folder / f"libggml-cpu-{variant}.so").encode()):
        raise RuntimeError(f"this machine cannot load the CPU variant {variant}")
    llama.llama_backend_init()
    llama.llama_model_default_params.restype = ModelParams
    llama.llama_context_default_params.restype = ContextParams
    llama.llama_model_load_from_file.argtypes = [C.c_char_p, ModelParams]
    llama.llama_init_from_model.argtypes = [C.c_void_p, ContextParams]
    llama.llama_adapter_lora_init.argtypes = [C.c_void_p, C.c_char_p]
    for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_adapter_lora_init"):
        getattr(llama, name).restype = C.c_void_p
    defaults = llama.llama_context_default_params()
    if (defaults.n_ctx, defaults.n_batch, defaults.flash, defaults.type_k, defaults.type_v) != (512, 2048, -1, 1, 1):
        raise RuntimeError("llama_context_params is not laid out as here: another release?")
    return llama


def _load(llama: C.CDLL, path: str, vocab_only: bool, adapted: str | None) -> int:
    """In the child: the number of the stage that failed, of STAGES."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = vocab_only
    model = llama.llama_model_load_from_file(os.fsencode(adapted or path), parameters)
    if not model:
        return 1
    os.write(1, b"\nMODEL-IS-LOADED\n")
    if adapted:
        return 0 if llama.llama_adapter_lora_init(model, os.fsencode(path)) else 3
    if vocab_only:
        return 0
    return 0 if llama.llama_init_from_model(model, llama.llama_context_default_params()) else 2


def _ask(llama: C.CDLL, path: str, vocab_only: bool, adapted: str | None) -> Outcome:
    log = os.memfd_create("log")
    child = os.fork()
    if not child:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(_load(llama, path, vocab_only, adapted))
    _, status = os.waitpid(child, 0)
    size = os.lseek(log, 0, os.SEEK_END)
    said = os.pread(log, size, 0).decode(errors="replace")
    os.close(log)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) < len(STAGES):
        stage = STAGES[os.WEXITSTATUS(status)]
        return Outcome(stage, "" if stage == "loads" else _complaint(said.splitlines(), "failed"))
    later = "adapter" if adapted else "context"
    stage = later if "\nMODEL-IS-LOADED\n" in said else "model"
    reason = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return Outcome(stage, f"{reason}: {_complaint(said.splitlines(), '')}")


def _complaint(lines: Sequence[str], otherwise: str) -> str:
    """The last line that gives a reason, else one that says that something failed."""
    for words in (
        ("GGML_ASSERT", "error loading model: ", "what():", "failed to initialize the context"),
        ("failed to",),
    ):
        found = [line for line in lines if any(word in line for word in words)]
        if found:
            return found[-1]
    return otherwise


def _serve(variant: str) -> None:
    llama, asked = _library(variant), json.load(sys.stdin)
    print(json.dumps([_ask(llama, path, asked["vocab_only"], asked["adapted"]) for path in asked["paths"]]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2])
    else:
        for path, outcome in zip(sys.argv[1:], outcomes(sys.argv[1:]), strict=True):
            print(f"{path}: {outcome.stage} {outcome.message}")
