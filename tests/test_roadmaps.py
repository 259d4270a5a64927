"""docs/roadmaps.md: its tables are those of what was measured, its verdicts follow, and rows come out as they did."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from tests.paths import DATA, ROOT
from tools.roadmaps import claims, measure, page
from tools.roadmaps.rows import SCHEMES, rows

FOUND = json.loads((DATA / "roadmaps.json").read_text())
FOLDER = DATA / "model"


@pytest.fixture(scope="module")
def sample() -> measure.Sample:
    return measure.sample(FOLDER, FOUND["basis"]["chunks"])


def row(nll: list[float], **more: Any) -> dict[str, Any]:
    return {"nll": nll, "kld": nll} | more


def test_the_tables_are_what_was_measured() -> None:
    text = (ROOT / "docs" / "roadmaps.md").read_text()
    for mark, table in page.tables(FOUND).items():
        shown = text.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
        assert shown.strip().splitlines() == list(page.lines(table)), mark


def test_every_row_was_measured() -> None:
    gguf = open_gguf(FOLDER / measure.MODEL)
    matrices = [tensor.name for tensor in gguf.tensors if len(tensor.shape) > 1]
    wanted = rows(gguf, matrices)
    assert sorted(row.key for row in wanted) == sorted(key for key in FOUND["rows"] if not key.startswith("file: "))
    assert {name for row in wanted for name in row.schemes.values()} <= SCHEMES.keys()
    assert {c.name for c in SCHEMES.values() if c.format} <= {row.name for row in wanted}


def test_rows_come_out_as_they_did(sample: measure.Sample) -> None:
    """A type, a mixture and another system's, on three of the chunks."""
    assert measure.basis(FOLDER, sample)["files"] == FOUND["basis"]["files"]
    of = sample._replace(chunks=sample.chunks[:3], base=sample.base[:3])
    by_key = {row.key: row for row in rows(of.model.gguf, list(of.weights))}
    for key in ("type: Q2_K", "mixture: Q4_K_M", "neighbour: web-rwkv.nf4"):
        now, then = measure.measured(of, by_key[key]), FOUND["rows"][key]
        assert now["bits"] == then["bits"] and now["error"] == pytest.approx(then["error"], 1e-4)
        # Codes of activations flip where another machine adds in another order.
        np.testing.assert_allclose(now["kld"], then["kld"][:3], rtol=0.05)
        np.testing.assert_allclose(now["nll"], then["nll"][:3], rtol=0.005)


def test_a_verdict_on_every_side() -> None:
    base = row([2.0, 3.0, 4.0, 5.0])
    lower = [value - gain for value, gain in zip(base["nll"], (0.049, 0.051, 0.05, 0.05), strict=True)]
    sure = claims.change(row(lower), base)
    assert sure.value == pytest.approx(100 * (np.exp(-0.05) - 1)) and 0 < sure.uncertainty < 0.1
    assert claims.verdict(sure, 4.9) == claims.HOLDS
    assert claims.verdict(sure, 9.2) == claims.PARTLY
    assert claims.verdict(claims.change(base, row(lower)), 4.9) == claims.FAILS
    assert claims.verdict(claims.Change(-1.0, 3.0), 4.9) == claims.CLOSE
    assert claims.verdict(claims.Change(-1.0, 0.8), 4.9) == claims.FAILS
    little = claims.Change(-0.6, 0.1)
    found = [claims.within(claims.Change(value, 0.1), 4.9, little) for value in (-0.5, 0.1, 0.5)]
    assert found == [claims.PARTLY, claims.CLOSE, claims.FAILS]
    assert claims.within(sure, 4.9, claims.Change(-6.0, 0.1)) == claims.HOLDS
    assert claims.apart(base, base) == 0 and claims.apart(base, row(lower)) > claims.SURE


def test_a_claim_whose_rows_were_not_measured() -> None:
    assert all(claims.judgement(claim, {})[0] == claims.UNKNOWN for claim in claims.CLAIMS)


def test_the_drawing_has_every_family() -> None:
    drawn = page.drawing(FOUND)
    assert all(f">{title}<" in drawn for title, _, _ in page.STYLES.values())
