"""Underflow is watched: no product or quotient escapes, and what is marked is repaired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.formats import FORMATS, Format
from hifi_ref.formats.hifi import e4m3
from hifi_ref.lanes import canary, numpy_lane
from hifi_ref.lanes.jax_lane import encoding
from tests import escapes
from tests.traces import operations

# Where products are not watched one by one, and why none is missed. Kept as short as it is read.
BELIEVED = {
    "formats/hifi/importance.py:_between": "added to 0.2, where a faint share is lost either way",
    "formats/mxfp4.py:floor_log2": "a power of two from 1 on, or 0, times a constant",
    "formats/q6_k.py:encode": "the squares that the first sums watched",
    "formats/search/grid_search.py:_digits": "shares, of which only the nearest digit is kept",
    "formats/search/grid_search.py:fit": "shares, of which only the nearest digit is kept",
    "formats/search/nearest_row.py:Target": "marked by _may_underflow of the fast text",
    "formats/search/scale_and_min_search.py:_least_error_with_min": "marked by _bounds",
    "formats/search/scale_search.py:least_weighted_square_error": "the products that the first sums watched",
    "lanes/jax_lane/searches/close_rows.py:_errors": "marked by _may_underflow",
    "lanes/jax_lane/searches/close_rows.py:judge": "a bound, not a value",
    "lanes/jax_lane/searches/nearest_row.py:_first_rows": "marked by _may_underflow",
    "lanes/jax_lane/searches/split_search.py:_best_places": "marked by _faint_gain and _may_underflow",
    "lanes/jax_lane/searches/split_search.py:_faint_gain": "a bound, not a value",
    "lanes/jax_lane/searches/split_search.py:_halves_table": "marked by _may_underflow",
    "lanes/jax_lane/searches/split_search.py:_score_whole": "marked by _may_underflow",
    "lanes/jax_lane/searches/split_search.py:_whole_table": "marked by _may_underflow",
}


CASES = [pytest.param(f, work, id=f"{f.name} {work}") for f in FORMATS.values() for work in operations(f)]


def traced(work: Callable[..., Any], *operands: Any) -> Any:
    return jax.make_jaxpr(canary.tracing(work, frozenset(), "cpu"))(*operands)


def outermost(place: str) -> str:
    """file:function of a place inside a function's function."""
    file, function = place.split(":")
    return f"{file}:{function.split('.')[0]}"


# NONE ESCAPES


@pytest.mark.parametrize("f, operation", CASES)
def test_nothing_escapes_the_watch(f: Format, operation: str) -> None:
    work, operands = operations(f)[operation]
    errors, places = escapes.find(traced(work, *operands))
    assert errors == []
    assert {outermost(place) for place in places} <= set(BELIEVED)


def test_nothing_is_believed_that_is_not_there() -> None:
    """Of some formats that between them have all of these searches."""
    places = set()
    for name in ("Q4_0", "Q4_K", "Q6_K", "IQ3_S", "IQ1_S", "IQ1_M", "MXFP4", "Q4_K_LITE"):
        for work, operands in operations(FORMATS[name]).values():
            places |= escapes.find(traced(work, *operands))[1]
    assert {outermost(place) for place in places} == set(BELIEVED)


def watching(work: Callable[..., Any]) -> Callable[..., Any]:
    """work, whose marks are results too."""

    def run(*operands: Any) -> Any:
        with exact.watching() as marks:
            return work(*operands), list(marks)

    return run


ESCAPING = {
    "a score in a sum": lambda a, b, c: exact.score(a, b) + c,
    "a product of products": lambda a, b, c: exact.mul(exact.product(a, b), c),
    "a product in a sum": lambda a, b, c: exact.product(a, b) + c,
    "a quotient in a sum": lambda a, b, c: exact.ratio(a, b) + c,
    "madd of two inputs": exact.madd,
    "a comparison": lambda a, b, c: exact.product(a, b) > c,
    "a comparison with 0": lambda a, b, c: exact.product(a, b) > 0,
    "by sealed_by": lambda a, b, c: exact.sealed_by(a)[1](a, b) + c,
    "without exact": lambda a, b, c: (a * b) + c,
    "a fraction of a sum": lambda a, b, c: exact.mul((a + b) * np.float32(0.25), c),
    "in a loop": lambda a, b, c: exact.fold(3, lambda i, t: t + exact.product(a, b), c),
    "carried": lambda a, b, c: exact.fold(3, lambda i, t: (t[0] + t[1], exact.product(t[1], b)), (a, c))[0],
    "in a pair": lambda a, b, c: exact.unpair(exact.pair(exact.product(a, b), b))[0] + c,
    "chosen": lambda a, b, c: jax.numpy.where(a > 0, exact.product(a, b), b) + c,
}
WATCHED = {
    "a score": lambda a, b, c: exact.score(exact.score(a, b), c) > exact.score(b, c),
    "a product": lambda a, b, c: exact.mul(exact.mul(a, b), c) + c,
    "a quotient": lambda a, b, c: exact.div(a, b) + c,
    "a root": lambda a, b, c: exact.sqrt(a) + c,
    "by a whole number": lambda a, b, c: exact.product(a, exact.f32(exact.nearest_int(b))) + c,
    "of binary16": lambda a, b, c: exact.product(exact.round_f16(a), exact.round_f16(b)) + c,
    "rounded": lambda a, b, c: exact.f32(exact.nearest_int(exact.product(a, b))) + c,
    "beside a constant": lambda a, b, c: exact.product(a, b) + np.float32(8.5),
    "of floors": lambda a, b, c: exact.product(exact.watched_input(a), exact.watched_input(b)) + c,
    "held": lambda a, b, c: exact.mul(exact.held(lambda: exact.mul(a, b)), c) + c,
    "running sums": lambda a, b, c: exact.running_sums(4, lambda i: (exact.mul(a[i], b[i]),))[0] + c[0],
    "a loop": lambda a, b, c: exact.fold(3, lambda i, t: t + exact.mul(a, b), c),
}


@pytest.mark.parametrize("case", ESCAPING)
def test_what_escapes_is_found(case: str) -> None:
    assert escapes.find(traced(watching(ESCAPING[case]), *np.ones((3, 4, 8), np.float32)))[0]


@pytest.mark.parametrize("case", WATCHED)
def test_what_is_watched_passes(case: str) -> None:
    assert escapes.find(traced(watching(WATCHED[case]), *np.ones((3, 4, 8), np.float32))) == ([], set())


def test_the_ranges_of_narrow_floats() -> None:
    """What escapes.py takes for granted of them."""
    code = np.arange(256, dtype=np.uint8)
    for values in (exact.widen_ue4m3_half(code), e4m3.widen(code)):
        some = abs(values[values != 0])
        assert some.min() >= 2.0**-10 and (some * 2**10 == np.trunc(some * 2**10)).all()


# WHAT IS MARKED


def marks_of(work: Callable[..., Any], *operands: Any) -> Any:
    """The marks of compiled work, each or-ed over its leading axes."""
    _, marks = jax.jit(watching(work))(*operands)
    return np.any([np.asarray(mark).reshape(-1, 8).any(axis=0) for mark in marks], axis=0)


@pytest.mark.parametrize("case", ["a product", "a quotient", "held", "running sums", "a loop"])
@pytest.mark.parametrize("size", [2.0**-60, 2.0**-75, 2.0**-100])
def test_faint_results_are_marked_in_their_lanes(case: str, size: float) -> None:
    a, b, c = np.ones((3, 4, 8), np.float32)
    a[2, 3], b[2, 3] = size, 1 / size if case == "a quotient" else size
    a[1, 5], b[0, 6] = 0, 2.0**-90
    found = marks_of(WATCHED[case], a, b, c).tolist()
    assert found == [lane == 3 and (case == "a product" or size < 2.0**-52) for lane in range(8)]


def test_a_mark_finds_its_block() -> None:
    rows, blocks = 2, 3
    of = {
        (2, 3, 32): lambda m: m[1, 2, 5], (4, 12): lambda m: m[3, 11], (6,): lambda m: m[5], (7, 2): lambda m: m[0, 1],
        (): lambda m: m,
    }  # fmt: skip
    for shape in of:
        mark = np.zeros(shape, bool)
        at = {(2, 3, 32): (1, 2, 5), (4, 12): (3, 11), (6,): (5,), (7, 2): (0, 1), (): ()}[shape]
        mark[at] = True
        found = np.asarray(exact.blocks_marked([jax.numpy.asarray(mark)], rows, blocks))
        expected = np.zeros((rows, blocks), bool)
        expected[{(2, 3, 32): (1, 2), (4, 12): (1, 2), (6,): (1, 2), (7, 2): 1, (): slice(None)}[shape]] = True
        assert (found == expected).all(), shape
    with pytest.raises(ValueError, match="belongs to none"):
        exact.blocks_marked([jax.numpy.zeros((4, 7), bool)], rows, blocks)


# WHAT IS REPAIRED


@pytest.mark.parametrize("name", ["Q4_0", "Q3_K", "Q4_K", "Q6_K", "IQ2_S", "IQ4_XS", "Q5_K_HIFI_RES8"])
@pytest.mark.parametrize("power", [-30, -52, -70, -104, -126, -140])
def test_faint_blocks_keep_their_bits(name: str, power: int) -> None:
    f = FORMATS[name]
    x = np.random.default_rng(power % 1000).standard_normal((2, 2048)).astype(np.float32)
    x[1, 256:512] *= np.float32(2.0**power)
    x[0, 300] = np.float32(2.0**power)
    with np.errstate(all="ignore"):
        expected = numpy_lane.encode(f, x, None).reshape(2, -1)
    assert (hr.encode(name, x, lane="jax") == expected).all()


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
def test_real_weights_are_not_repaired(name: str) -> None:
    """Weights as models have them, importance as matrices have it: none is marked."""
    f = FORMATS[name]
    rng = np.random.default_rng(8)
    blocks = encoding.SMALL_CHUNK // 256
    x = (rng.standard_t(4, (1, blocks, 256)) * 0.02).astype(np.float32).astype(np.float16).astype(np.float32)
    run = encoding._encoder(f, "cpu", None, "F32")
    assert not np.asarray(run(x, None)[1]).any()
    importance = rng.lognormal(-4, 3, (blocks, 256)).astype(np.float32)
    assert not np.asarray(run(x, importance)[1]).any()
