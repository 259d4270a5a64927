"""The watch on ties of the definition's roundings: what is a tie, and that the vectors hold those that can be."""

from __future__ import annotations

import numpy as np
import pytest

from golden import hard_rows, tie_blocks, tie_rows, ties
from hifi_ref.formats import LLAMA_CPP

F32 = np.float32
ONE = F32(1)


def sides(rounding: str, *operands: np.ndarray | np.float32) -> set[ties.Tie]:
    return {tie for tie in ties.ties_of(rounding, *operands) if tie[0] != "rounds"}


def test_a_product_is_on_a_tie_where_the_binary32_numbers_around_it_are_as_near() -> None:
    tie = F32(1 + 2.0**-12), F32(1 + 2.0**-12)  # 1 + 2^-11 + 2^-24
    assert sides("product", *tie) == {("on", "+")}
    assert sides("product", -tie[0], tie[1]) == {("on", "-")}
    assert sides("product", F32(3), F32(5)) == set()
    assert sides("Add", ONE, F32(2.0**-24)) == {("on", "+")}
    assert sides("Add", ONE, np.nextafter(F32(2.0**-24), F32(0))) == {("below", "+")}
    assert sides("Add", ONE, np.nextafter(F32(2.0**-24), ONE)) == {("above", "+")}


@pytest.mark.parametrize(("rounding", "tie"), [("nearest_int", 2.5), ("truncate", 3.0), ("narrow_f16", 1 + 2.0**-11)])
def test_neighbours_of_a_tie_lie_just_beside_it(rounding: str, tie: float) -> None:
    around = [F32(tie), np.nextafter(F32(tie), F32(0)), np.nextafter(F32(tie), F32(9))]
    assert [sides(rounding, x) for x in around] == [{("on", "+")}, {("below", "+")}, {("above", "+")}]
    assert [sides(rounding, -x) for x in around] == [{("on", "-")}, {("below", "-")}, {("above", "-")}]
    assert sides(rounding, F32(tie + 0.2)) == set()


def test_what_never_rounds_has_no_ties_and_a_quotient_is_on_none() -> None:
    rounds = ties.ties_of("div", ONE, F32(3))
    assert ties.possible(ties.Site("f: div(a, b)", "div"), rounds) == {("below", "+"), ("above", "+")}
    rounds = ties.ties_of("Sub", F32(0.1), F32(3))
    assert ties.possible(ties.Site("f: a - b", "Sub"), rounds) == {(side, "-") for side in ties.SIDES}
    assert ties.possible(ties.Site("f: a - b", "Sub"), ties.ties_of("Sub", F32(7), F32(3))) == set()


def test_the_definition_is_watched_at_each_site() -> None:
    met = {site.rounding: (site, found) for site, found in ties.of_vectors("Q8_0", "encode").items()}
    assert {"round_half_away", "narrow_f16", "div", "reciprocal_or_zero", "product", "truncate"} <= met.keys()
    assert all(ties.possible(site, found) <= found for site, found in met.values())
    # A scale is not negative, and what is cut off was whole before
    assert ("rounds", "-") not in met["narrow_f16"][1] and not ties.possible(*met["truncate"])
    halves = np.tile(np.array([127, 2.5, -2.5, 1], F32), 8).reshape(1, 32)
    found = ties.met("Q8_0", "encode", [(halves, None)])
    seen = next(found[site] for site in found if site.rounding == "round_half_away")
    assert seen == {("on", "+"), ("on", "-"), ("rounds", "+"), ("rounds", "-")}


def test_the_search_finds_rows_on_ties_that_are_missing() -> None:
    f = LLAMA_CPP["Q8_0"]
    site = next(site for site in ties.of_vectors("Q8_0", "encode") if site.rounding == "narrow_f16")
    recipe, held = next(tie_rows.search(f, {(site, ("above", "+"))}))
    x, importance = hard_rows.row(f, recipe)
    assert held == {(site, ("above", "+"))}
    assert ("above", "+") in ties.met("Q8_0", "encode", [(x[None], importance)])[site]


def test_every_sum_on_the_way_is_watched() -> None:
    terms = np.array([[1, 2.0**-24, 2.0**-23, -(2.0**-20)], [0, 0, -1, -(2.0**-24)]], F32)
    assert sides("sum_of_rows", terms) == {("on", "+"), ("on", "-")}
    assert sides("sum_in_order", terms.T) == sides("sum_of_rows", terms)
    beside = np.array([[1, np.nextafter(F32(2.0**-24), F32(0))]], F32)
    assert sides("sum_of_rows", beside) == {("below", "+")}
    assert sides("float_dot", beside, np.array([1, 1], F32)) == {("below", "+")}
    assert sides("products of float_dot", F32(1 + 2.0**-12), F32(1 + 2.0**-12)) == {("on", "+")}


@pytest.mark.parametrize("cell", ["Q4_1.decode", "Q8_0.dot", "BF16.dot", "Q2_0.dot"])
def test_vectors_of_decoders_and_dot_products_hold_all_ties(cell: str) -> None:
    found = ties.of_vectors(*cell.split("."))
    assert any(ties.possible(site, met) for site, met in found.items())
    assert all(ties.possible(site, met) <= met for site, met in found.items())


def test_blocks_on_ties_are_found() -> None:
    f = LLAMA_CPP["Q4_0"]
    (site,) = (site for site in ties.of_vectors("Q4_0", "dot") if site.rounding == "sum_of_rows")
    number = tie_blocks.numbers(f, "dot")[0]
    found = ties.met_by_each("Q4_0", "dot", [tie_blocks.drawn(f, "dot", number)] * 2)
    assert found[0] == found[1] and ("rounds", "+") in found[0][site]
    chosen, left = tie_blocks.search(f, "dot", 3)
    assert not chosen and {tie for _, tie in left} <= {("below", "+"), ("above", "+"), ("below", "-"), ("above", "-")}
