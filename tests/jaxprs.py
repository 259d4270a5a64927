"""A walk through what jax traces, with what is known of each value: loops until nothing changes, branches, inner calls.

What is known, and what an operation makes of it, is for the ``Rules`` to say. Values join by ``|``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jax._src import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


class Rules(NamedTuple):
    """constant(array) -> value; one(equation, its result, operands, context, errors) -> value of that result;
    widened(before, after, result) -> what stands for both when a loop goes round; context(jaxpr, outer context,
    equation that calls it or None) -> what ``one`` is told of the jaxpr that it is in, hashable.
    """

    constant: Callable[[Any], Any]
    one: Callable[[Any, Any, list[Any], Any, list[str]], Any]
    widened: Callable[[Any, Any, Any], Any]
    context: Callable[[Any, Any, Any], Any] = lambda jaxpr, outer, eqn: None
    calls: frozenset[str] = frozenset()
    """Inner calls, by their names, that are operations of their own."""


class Notes(NamedTuple):
    """Errors, and what was found of each inner jaxpr with each kind of operands: loops walk through them again."""

    rules: Rules
    errors: dict[str, None]
    seen: dict[Any, list[Any]]


def find(traced: ClosedJaxpr, rules: Rules, given: list[Any]) -> list[str]:
    """One line an error, with its place; empty if there is none."""
    notes = Notes(rules, {}, {})
    _walk(traced, given, notes, None, None)
    return list(notes.errors)


def _walk(closed: ClosedJaxpr | Jaxpr, given: list[Any], notes: Notes, outer: Any, eqn: Any) -> list[Any]:
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    context = notes.rules.context(jaxpr, outer, eqn)
    key = id(closed), tuple(given), context if isinstance(context, bool) else None
    if key not in notes.seen:
        notes.seen[key] = _walked(closed, jaxpr, given, notes, context)
    return list(notes.seen[key])


def _walked(closed: ClosedJaxpr | Jaxpr, jaxpr: Jaxpr, given: list[Any], notes: Notes, context: Any) -> list[Any]:
    constant = notes.rules.constant
    consts = closed.consts if isinstance(closed, ClosedJaxpr) else []
    values = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))
    values |= dict(zip(jaxpr.invars, given, strict=True))
    for eqn in jaxpr.eqns:
        operands = [constant(v.val) if isinstance(v, Literal) else values[v] for v in eqn.invars]
        found: list[str] = []
        results = _results(eqn, operands, notes, context, found)
        for error in found:
            notes.errors[f"{error} at {source_info_util.summarize(eqn.source_info)}"] = None
        values |= dict(zip(eqn.outvars, results, strict=True))
    return [constant(v.val) if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _results(eqn: Any, operands: list[Any], notes: Notes, context: Any, found: list[str]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params

    def walk(inner: Any, given: list[Any]) -> list[Any]:
        return _walk(inner, given, notes, context, eqn)

    def fixed(step: Any, carry: list[Any], outvars: list[Any]) -> list[Any]:
        """What holds at every turn of a loop."""
        while True:
            after = [notes.rules.widened(a, b, v) for a, b, v in zip(carry, step(carry), outvars, strict=True)]
            if after == carry:
                return carry
            carry = after

    if name == "while":
        first, second = params["cond_nconsts"], params["body_nconsts"]
        consts, carry = operands[first : first + second], operands[first + second :]
        return fixed(lambda carry: walk(params["body_jaxpr"], consts + carry), carry, eqn.outvars)
    if name == "scan":
        # What it carries keeps its shape; what it runs over, or stacks, has an axis more outside.
        inner = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
        carried = sum(a.aval.shape == b.aval.shape for a, b in zip(inner.outvars, eqn.outvars, strict=True))
        rows_count = sum(a.aval.shape != b.aval.shape for a, b in zip(inner.invars, eqn.invars, strict=True))
        consts = len(operands) - carried - rows_count
        carry, rows = operands[consts : consts + carried], operands[consts + carried :]
        stacked: list[Any] = []

        def step(carry: list[Any]) -> list[Any]:
            out = walk(params["jaxpr"], operands[:consts] + carry + rows)
            stacked[:] = out[carried:]
            return out[:carried]

        return fixed(step, carry, eqn.outvars[:carried]) + stacked
    if name == "cond":
        branches = [walk(branch, operands[1:]) for branch in params["branches"]]
        return [union(outs) for outs in zip(*branches, strict=True)]
    inner = params.get("jaxpr") or params.get("call_jaxpr")
    if inner is not None and params.get("name") not in notes.rules.calls:
        return walk(inner, operands)
    return [notes.rules.one(eqn, v.aval, operands, context, found) for v in eqn.outvars]


def union(values: Any) -> Any:
    first, *rest = values
    for value in rest:
        first = first | value
    return first
