"""`python -m hifi_ref.conform.serve TARGET [--debug]`: line_target's protocol, spoken for what Python can call.

TARGET is python:MODULE, gguf-py, or ggml:DIR#PART. A module has any of

    encode(name, x f32[rows, n], weights f32[n] or None) -> u8[rows, bytes]
    decode(name, blocks u8[rows, bytes]) -> f32[rows, n]
    dot(name, w u8[rows, bytes], a u8[bytes]) -> f32[rows]

and raises NotImplementedError for what it does not offer. Where a dialect's vectors give an encoder more, such as
outliers=3, encode gets that by keyword if it has such parameters, and is not asked otherwise.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from hifi_ref.conform.cases import hexed
from hifi_ref.conform.line_target import HELLO, NoAnswerError, NotOfferedError
from hifi_ref.conform.neighbours.target import answer as neighbours_answer


def implementation(target: str) -> Any:
    """What answers: a module, or a part of a folder of shared libraries. Raises ImportError, OSError, ValueError."""
    kind, _, rest = target.partition(":")
    if kind == "python":
        sys.path.insert(0, os.getcwd())
        return importlib.import_module(rest)
    if target == "gguf-py":
        from hifi_ref.conform import gguf_py

        return gguf_py
    if kind == "ggml":
        from hifi_ref.conform import ggml_library

        folder, _, part = rest.rpartition("#")
        return ggml_library.open_part(folder, part)
    raise ValueError(f"{target} is no python:MODULE, gguf-py or ggml:DIR#PART")


def describe(module: Any) -> str:
    """Name and version, where it has them."""
    name = getattr(module, "__name__", type(module).__name__)
    version = getattr(module, "__version__", None)
    return name if version is None else f"{name} {version}"


def call(
    module: Any, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float],
    debug: bool = False,
) -> np.ndarray:  # fmt: skip
    """One question to a module, uint8[n]. Raises NotOfferedError, and NoAnswerError for whatever else goes wrong.

    ``debug``: an exception of the module's is written to stderr with its traceback.
    """
    function = getattr(module, operation, None)
    rows, more = int(context.get("rows", 1)), {key: value for key, value in context.items() if key != "rows"}
    if function is None or not more.keys() <= inspect.signature(function).parameters.keys():
        raise NotOfferedError
    # The caller's arrays are nobody else's to write to.
    values = [None if v is None else np.array(v) for v in given.values()]
    first = values[0]
    assert first is not None
    arguments = [first.reshape(rows, -1), *values[1:]]
    try:
        result = np.asarray(function(name, *arguments, **more))
    except NotImplementedError:
        raise NotOfferedError from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        raise NoAnswerError(message, ended=False) from error
    right = np.uint8 if operation == "encode" else np.float32
    if result.dtype != right:
        raise NoAnswerError(f"returned {result.dtype}, not {np.dtype(right)}", ended=False)
    return np.ascontiguousarray(result).reshape(-1).view(np.uint8)


def _answer(module: Any, line: str, debug: bool) -> str:
    if line.startswith("{"):
        return neighbours_answer(module, line, debug)
    operation, *rest = line.split(" ")
    if line == HELLO:
        return f"ok {describe(module)}"
    if operation not in ("decode", "encode", "dot"):
        return f"error no operation is called {operation}"
    name, *texts = rest
    words = (text.split("=") for text in texts if "=" in text)
    context = {key: float(value) if "." in value else int(value) for key, value in words}
    texts = [text for text in texts if "=" not in text]
    raw = [None if text == "-" else np.frombuffer(bytes.fromhex(text), np.uint8) for text in texts]
    if operation == "encode":
        raw = [None if part is None else part.view("<f4").astype(np.float32) for part in raw]
    keys = {"decode": ("blocks",), "encode": ("weights", "importance"), "dot": ("w", "a")}[operation]
    try:
        return f"ok {hexed(call(module, operation, name, dict(zip(keys, raw, strict=True)), context, debug))}"
    except NotOfferedError:
        return "no"
    except NoAnswerError as error:
        return f"error {error}"


def serve(module: Any, questions: BinaryIO, answers: BinaryIO, debug: bool = False) -> None:
    """Answer line by line until the input ends."""
    for line in questions:
        answer = _answer(module, line.decode("ascii").rstrip("\r\n"), debug)
        answers.write(answer.encode("ascii", "backslashreplace") + b"\n")
        answers.flush()


if __name__ == "__main__":
    # What a library prints must not stand between the answers.
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        try:
            opened = implementation(sys.argv[1])
        except Exception as error:
            if "--debug" in sys.argv[2:]:
                traceback.print_exc()
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)
        serve(opened, sys.stdin.buffer, channel, "--debug" in sys.argv[2:])
