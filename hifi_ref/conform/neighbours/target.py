"""Asks a program about the neighbouring systems, over the line protocol of line_target: a JSON object a question.

    {"operation": .., "scheme": .., "parameters": {..}, "given": {NAME: ARRAY}, "shape": [..]}

    ok {NAME: ARRAY}        no        error WHY

An ARRAY is {"dtype": NumPy's name, "shape": [..], "bytes": hexadecimal digits, little-endian}, as in the vectors.

A module has any of

    encode(name, x, **parameters) -> the stored arrays by name
    decode(name, stored, shape, **parameters) -> the weights
    matmul(name, stored, a, **parameters) -> a times the transposed weights
    loss(name, x, y, **parameters) -> a number

and raises NotImplementedError for what it does not offer: hifi_ref.neighbours is one such module.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from hifi_ref.conform.line_target import LineTarget, NoAnswerError, NotOfferedError
from hifi_ref.conform.neighbours.vectors import ANSWERS, Vector, arrays_of, written


def question(operation: str, scheme: str, vector: Vector) -> str:
    """One line."""
    given = {name: written(array) for name, array in vector.given.items()}
    return json.dumps(
        {"operation": operation, "scheme": scheme, "parameters": dict(vector.parameters), "given": given,
         "shape": list(vector.shape)}
    )  # fmt: skip


def ask(target: LineTarget, operation: str, scheme: str, vector: Vector) -> dict[str, np.ndarray]:
    """The arrays of an answer. Raises NotOfferedError, NoAnswerError."""
    answer = target.exchange(question(operation, scheme, vector))
    if answer == "no":
        raise NotOfferedError
    head, _, rest = answer.partition(" ")
    if head == "error":
        raise NoAnswerError(f"refused: {rest or 'without a reason'}", ended=False)
    try:
        if head != "ok":
            raise ValueError(head)
        return arrays_of(json.loads(rest))
    except (KeyError, TypeError, ValueError):
        raise NoAnswerError(f"answered {answer[:76]!r}, not ok and arrays, no, or error", ended=False) from None


def answer(module: Any, line: str, debug: bool = False) -> str:
    """A module's answer to a question, as a line."""
    asked = json.loads(line)
    function = getattr(module, asked["operation"], None)
    if function is None:
        return "no"
    try:
        result = _call(function, asked)
        return "ok " + json.dumps({name: written(np.asarray(array)) for name, array in result.items()})
    except NotImplementedError:
        return "no"
    except Exception as error:
        if debug:
            traceback.print_exc()
        return f"error raised {type(error).__name__}: {' '.join(str(error).split())}"


def _call(function: Any, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    # The caller's arrays are nobody else's to write to.
    given = {name: np.array(array) for name, array in arrays_of(asked["given"]).items()}
    operation, scheme, parameters = asked["operation"], asked["scheme"], asked["parameters"]
    if operation == "encode":
        return function(scheme, given.pop("x"), **given, **parameters)
    if operation == "decode":
        result = function(scheme, given, tuple(asked["shape"]), **parameters)
    elif operation == "matmul":
        result = function(scheme, given, given.pop("a"), **parameters)
    else:
        result = np.float32(function(scheme, given["x"], given["y"], **parameters))
    return {ANSWERS[operation]: result}
