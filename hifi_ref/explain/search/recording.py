"""What a run of the definition has in hand: the local variables of named functions, as the interpreter shows them.

Nothing of the definition is changed or told again: a search is watched while it encodes one block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any, NamedTuple

import numpy as np


class Record(NamedTuple):
    """The local variables of a function (its qualified name) at one moment."""

    function: str
    values: dict[str, Any]


def recorded(
    run: Callable[[], object], at_return: Collection[str], by_turn: Collection[str] = (), turn: str = "i"
) -> list[Record]:
    """Run, and record the functions of ``at_return`` when they return, those of ``by_turn`` after each turn of a loop.

    A turn is over when the local variable named ``turn`` changes, or the function returns. Arrays are copied.
    """
    records: list[Record] = []

    def keep(frame: FrameType) -> None:
        values = {name: v.copy() if isinstance(v, np.ndarray) else v for name, v in frame.f_locals.items()}
        records.append(Record(frame.f_code.co_qualname, values))

    def returning(frame: FrameType, event: str, arg: object) -> Any:
        if event == "return":
            keep(frame)
        return returning

    def turning() -> Callable[[FrameType, str, object], Any]:
        last: list[Any] = [None]
        before: dict[str, Any] = {}

        def local(frame: FrameType, event: str, arg: object) -> Any:
            now = frame.f_locals.get(turn)
            if last[0] is not None and (now != last[0] or event == "return"):
                records.append(Record(frame.f_code.co_qualname, dict(before)))
            last[0] = None if event == "return" else now
            before.update({n: v.copy() if isinstance(v, np.ndarray) else v for n, v in frame.f_locals.items()})
            return local

        return local

    def entering(frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_qualname
        if name in at_return:
            frame.f_trace_lines = False
            return returning
        return turning() if name in by_turn else None

    earlier = sys.gettrace()
    sys.settrace(entering)
    try:
        run()
    finally:
        sys.settrace(earlier)
    return records
