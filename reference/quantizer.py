"""llama_model_quantize of the pinned release: files quantized, and the types that it would give their tensors.

`chosen_types` asks in a child process, which forks for each question, since the release may abort. Nothing is written
then, and no weights are read, so that a model may be a header followed by nothing.
"""

from __future__ import annotations

import ctypes as C
import functools
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reference.fetch import library_dir

LIBRARIES = ("libggml-base.so", "libggml.v0.5.0.so", "libllama.v0.5.0.so")
# ggml_type where none is asked for; llama_model_kv_override_type.
NO_TYPE = 43
_INTEGER, _FLOAT, _BOOL, _STRING = range(4)
_LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\S+), size = [^\n]*?(?:-> [^\n]*\((\S+)\))?$", re.M)


class ImportanceRow(C.Structure):
    """llama_model_imatrix_data: one tensor's importance of each of its columns; a list of them ends with no name."""

    _fields_ = [("name", C.c_char_p), ("data", C.POINTER(C.c_float)), ("size", C.c_size_t)]


class TypeOverride(C.Structure):
    """llama_model_tensor_override: a pattern and a type; a list of them ends with no pattern."""

    _fields_ = [("pattern", C.c_char_p), ("type", C.c_int)]


class KeyOverride(C.Structure):
    """llama_model_kv_override; a list of them ends with an empty key."""

    class _Value(C.Union):
        _fields_ = [("integer", C.c_int64), ("float", C.c_double), ("bool", C.c_bool), ("text", C.c_char * 128)]

    _fields_ = [("tag", C.c_int), ("key", C.c_char * 128), ("value", _Value)]


class Params(C.Structure):
    """llama_model_quantize_params."""

    _fields_ = [
        ("nthread", C.c_int32), ("ftype", C.c_int), ("output_tensor_type", C.c_int),
        ("token_embedding_type", C.c_int), ("allow_requantize", C.c_bool), ("quantize_output_tensor", C.c_bool),
        ("only_copy", C.c_bool), ("pure", C.c_bool), ("keep_split", C.c_bool), ("dry_run", C.c_bool),
        ("imatrix", C.POINTER(ImportanceRow)), ("kv_overrides", C.POINTER(KeyOverride)),
        ("tt_overrides", C.POINTER(TypeOverride)), ("prune_layers", C.POINTER(C.c_int32)), ("max_buf_size", C.c_size_t),
    ]  # fmt: skip


class Question(NamedTuple):
    """A file, the number of a file type, whether importance is given, and fields of Params to set, types as numbers.

    ``overrides`` are pairs of a pattern and a type's number.
    """

    source: str
    file_type: int
    importance: bool = False
    params: Mapping[str, Any] = {}
    overrides: Sequence[tuple[str, int]] = ()


class Answer(NamedTuple):
    """``types`` maps each tensor to its type's name, upper case, in the order of writing; ``problem`` is why not."""

    types: dict[str, str]
    problem: str = ""


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    file_type: int,
    importance: Mapping[str, np.ndarray] | None = None,
    keys: Mapping[str, int | float | str] | None = None,
    overrides: Sequence[tuple[str, int]] = (),
    folder: Path | None = None,
    prune: Sequence[int] = (),
    **params: Any,
) -> Answer:
    """Quantize a file; ``types`` is empty, and ``problem`` what the release says where it fails.

    Args:
        importance: f32 of each tensor's columns.
        keys: metadata to set, as llama-quantize does for importance.
        folder: where the release's libraries lie; fetched where None.
        prune: numbers of layers that are left out, ascending.
        params: fields of Params.
    """
    llama, said = _library(folder or library_dir()), list[str]()
    log = _LOG(lambda level, text, data: said.append(text.decode("utf-8", "replace")))
    llama.llama_log_set(log, None)
    p = llama.llama_model_quantize_default_params()
    if (p.output_tensor_type, p.quantize_output_tensor, p.max_buf_size) != (NO_TYPE, True, 8 << 30):
        raise RuntimeError("llama_model_quantize_params is not laid out as here: another release?")
    p.nthread, p.ftype = 1, file_type
    for name, value in params.items():
        setattr(p, name, value)
    rows = {name: np.ascontiguousarray(row, np.float32) for name, row in (importance or {}).items()}
    entries = [(name.encode(), row.ctypes.data_as(C.POINTER(C.c_float)), row.size) for name, row in rows.items()]
    # The lists must outlive the call.
    lists = (
        _listed(ImportanceRow, entries), _listed(TypeOverride, [(pattern.encode(), t) for pattern, t in overrides]),
        _listed(KeyOverride, [key_override(key, value) for key, value in (keys or {}).items()]),
    )  # fmt: skip
    p.imatrix, p.tt_overrides, p.kv_overrides = lists
    if prune:
        p.prune_layers = (C.c_int32 * (len(prune) + 1))(*prune, -1)
    failed = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), C.byref(p))
    llama.llama_log_set(_QUIET, None)
    text = "".join(said)
    types = {name: (new or old).upper() for name, old, new in _LINE.findall(text)}
    return Answer({} if failed else types, text.strip().splitlines()[-1] if failed else "")


def chosen_types(questions: Iterable[Question]) -> list[Answer]:
    """The types that the release would give, for each question."""
    done = subprocess.run(
        [sys.executable, "-m", "reference.quantizer"], cwd=Path(__file__).resolve().parent.parent,
        input=json.dumps([question._asdict() for question in questions]), capture_output=True, text=True, check=False,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the release could not be asked: {done.stderr.strip()[-300:]}")
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def _listed(kind: type[C.Structure], entries: Sequence[Any]) -> Any:
    """A list as the release takes it, ended by zeros; None where it is empty."""
    return (kind * (len(entries) + 1))(*entries) if entries else None


def key_override(key: str, value: int | float | str) -> KeyOverride:
    """Metadata to set, as the release takes it."""
    held = KeyOverride._Value()
    if isinstance(value, str):
        tag, held.text = _STRING, value.encode()
    elif isinstance(value, bool):
        tag, held.bool = _BOOL, value
    elif isinstance(value, float):
        tag, held.float = _FLOAT, value
    else:
        tag, held.integer = _INTEGER, value
    return KeyOverride(tag, key.encode(), held)


_LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)
_QUIET = _LOG(lambda level, text, data: None)


@functools.cache
def _library(folder: Path) -> C.CDLL:
    llama = [C.CDLL(str(folder / name), mode=C.RTLD_GLOBAL) for name in LIBRARIES][-1]
    llama.llama_model_quantize_default_params.restype = Params
    llama.llama_model_quantize.restype = C.c_uint32
    llama.llama_model_quantize.argtypes = [C.c_char_p, C.c_char_p, C.POINTER(Params)]
    return llama


def _answer(question: Question) -> Answer:
    """In the child's child: the types, read from what the release says in a dry run."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    importance = {"none": np.ones(1, np.float32)} if question.importance else None
    return quantize(
        question.source, "", question.file_type, importance, None, [tuple(o) for o in question.overrides],
        dry_run=True, **question.params,
    )  # fmt: skip


def _ask(question: Question) -> Answer:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(sending, "w") as answers:
            json.dump(_answer(question), answers)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as answers:
        text = answers.read()
    _, status = os.waitpid(child, 0)
    return Answer(*json.loads(text)) if status == 0 else Answer({}, "the release aborts")


if __name__ == "__main__":
    _library(library_dir())
    print(json.dumps([_ask(Question(**asked)) for asked in json.load(sys.stdin)]))
