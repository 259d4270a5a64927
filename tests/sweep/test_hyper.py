"""The sweep of Hyper-Quantization is the sum of its parts: codes, scales and losses are those of one at a time."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import hyper as page
from hifi_ref.sweep import configurations, hyper, losses, one_by_one
from tests.paths import ROOT

ALL = [*hyper.choices(double=False), *hyper.choices(double=True)]
RNG = np.random.default_rng(0)
X = (RNG.standard_t(3, 2 * hyper.SPAN) * np.repeat(RNG.uniform(0.01, 3, 2), hyper.SPAN)).astype(np.float32)


def decoded(x: np.ndarray, choice: hyper.Choice) -> np.ndarray:
    parameters = dict(configurations.of_choice(choice).parameters)
    return nb.decode("hyper", nb.encode("hyper", x[None], **parameters), (1, x.size), **parameters)[0]


def expected(x: np.ndarray, y: np.ndarray, w: np.ndarray, block: int) -> dict[str, float]:
    error, wide = x.astype(np.float64) - y, x.astype(np.float64)
    squares = (error**2).sum()
    return {
        "rmse": math.sqrt(squares / x.size),
        "normalized": math.sqrt(squares / (wide**2).sum()),
        "original": page.loss(x[None], y[None], block),
        "original_as_coded": page.loss_as_coded(x[None], y[None], block),
        "weighted": math.sqrt((w * error**2).sum() / (w * wide**2).sum()),
    }


def test_how_many_there_are() -> None:
    assert (len(hyper.choices(double=False)), len(hyper.choices(double=True))) == (8 * 8 * 2 * 3, 15 * 16 * 16 * 3)
    assert len(set(ALL)) == len(ALL)
    named = [configurations.of_choice(choice) for choice in ALL]
    assert len({c.name for c in named}) == len(ALL) and [configurations.choice_of(c) for c in named] == ALL


def test_losses_are_those_of_one_at_a_time() -> None:
    w = RNG.uniform(0, 5, X.size).astype(np.float32)
    some = [ALL[i] for i in [*range(0, 384, 11), *range(384, len(ALL), 97)]]
    found = hyper.sums(X, w, {choice: i for i, choice in enumerate(some)})
    for choice, sums in zip(some, found, strict=True):
        known = losses.losses(sums)
        for name, value in expected(X, decoded(X, choice), w, choice.inner.block_size).items():
            assert known[name] == pytest.approx(value, rel=1e-6), (choice, name)


def test_what_is_compared_is_what_is_read_back() -> None:
    """The same numbers; a zero's sign, which no loss knows, is the code's here."""
    for i in RNG.choice(len(ALL), 300, replace=False):
        choice = ALL[i]
        codes, *unrounded = page.quantized(
            X.reshape(-1, choice.inner.block_size), choice.inner.bits, choice.inner.symmetric
        )
        ((_, numbers),) = hyper._stored(unrounded, choice.inner, [choice])
        y = page.values(codes, numbers, "fp32").reshape(-1)
        assert np.array_equal(y, decoded(X, choice)), choice


def test_the_golden_configurations_are_among_them() -> None:
    """Those of the vectors whose blocks the sweep has; the scheme itself is held to the bits of all of them."""
    seen = set()
    for path in (ROOT / "golden" / "hyper").glob("*.json"):
        for group in json.loads(path.read_text()).get("groups", []):
            for given in [test["parameters"] for test in group["tests"] if "bits" in test["parameters"]]:
                inner, outer = (given, given.get("outer"))
                kinds = [
                    None if kind is None else page.Kind(*map(kind.get, page.Kind._fields)) for kind in (inner, outer)
                ]
                seen.add(hyper.Choice(*kinds, given.get("scale_type", "fp16")))
    assert len(seen) > 300 and seen <= set(ALL)


def test_cores_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {choice: i for i, choice in enumerate(ALL[:60])}
    whole = hyper.sums(X, None, wanted)
    monkeypatch.setattr("hifi_ref.lanes.cores.count", lambda: 1)
    assert np.array_equal(hyper.sums(X, None, wanted), whole)


def test_zeros_and_the_largest_numbers() -> None:
    singles = [c for c in hyper.choices(double=False) if c.inner.block_size in (8, 32)]
    wanted = {choice: i for i, choice in enumerate(singles)}
    found = [losses.losses(row) for row in hyper.sums(np.zeros(X.size, np.float32), None, wanted)]
    assert {tuple(line.values()) for line in found} == {(0.0, None, None, None, None)}
    # A scale beyond binary16 is an infinity, and so is the loss; fp8 saturates.
    found = [losses.losses(row) for row in hyper.sums(np.full(X.size, 1e7, np.float32), None, wanted)]
    for choice, line in zip(wanted, found, strict=True):
        if choice.inner.symmetric and choice.inner.bits < 8:
            assert (line["rmse"] is None) == (choice.scale_type == "fp16"), choice


def test_formats_go_through_the_same_sums() -> None:
    x, w = X.reshape(2, -1), RNG.uniform(0, 5, hyper.SPAN).astype(np.float32)
    by_name = {c.name: c for c in configurations.configurations(["llama.cpp", "neighbours"])}
    y = one_by_one.decoded(x, w, by_name["Q4_K"])
    known = losses.losses(losses.sums(x, y, w))
    wanted = expected(X, y.reshape(-1), np.tile(w, 2), losses.BLOCK)
    assert known == pytest.approx(wanted, rel=1e-9)
    assert one_by_one.decoded(x, None, by_name["IQ2_XXS"]).shape == x.shape
    same = "bitsandbytes.nf4 block_size=64 nested=False"
    assert np.array_equal(
        one_by_one.decoded(x, None, by_name[same]),
        nb.decode("bitsandbytes.nf4", nb.encode("bitsandbytes.nf4", x), x.shape),
    )


def test_names_are_ascii_words() -> None:
    names = [c.name for c in configurations.configurations()]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[\w. =/-]+", name) for name in names)
