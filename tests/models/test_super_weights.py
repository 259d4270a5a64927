"""Super weights: planted ones are found, others are not; the largest; what another file makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifi_ref.models import ModelError, tokenize
from hifi_ref.models.super_weights import TEXT, SuperWeight, _of_matrix, by_spikes, changes, largest
from tests.models import planted, small

PLACE = (planted.TENSOR, 0, planted.ROW, planted.COLUMN)


def ids_of(path: Path) -> list[int]:
    return tokenize(path, TEXT, special=True, parse=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write(tmp_path_factory.mktemp("planted") / "model.gguf")


def test_it_is_found(model: Path) -> None:
    (found,) = by_spikes(model, ids_of(model), "exact")
    assert found[:4] == PLACE and found.value == planted.VALUE
    assert found.output == pytest.approx(found.input * planted.VALUE, rel=0.01)
    assert found.times > 1000 and found.share > 0.95


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "gemma3"])
def test_none_is_found_where_none_is(name: str, tmp_path: Path) -> None:
    path = small.write(tmp_path / "model.gguf", name)
    assert by_spikes(path, ids_of(path), "exact") == []


def test_neither_half_is_enough(tmp_path: Path) -> None:
    """A large weight whose input is usual, or a small one whose input is large, is none."""
    for value, raised in ((planted.VALUE, 1.0), (0.02, 12.0)):
        path = planted.write(tmp_path / "model.gguf", value, raised)
        assert by_spikes(path, ids_of(path), "exact") == [], (value, raised)


def test_several_of_one_matrix() -> None:
    """In rows and columns of their own, largest first; a row whose output many weights share has none."""
    rng = np.random.default_rng(4)
    x, w = rng.normal(0, 1, (9, 64)).astype(np.float32), rng.normal(0, 0.05, (48, 64)).astype(np.float32)
    x[3, 7], x[6, 9] = 400, -300
    w[5, 7], w[11, 9] = 4, 3
    found = _of_matrix("name", 2, x, w)
    assert [weight[:4] for weight in found] == [("name", 2, 5, 7), ("name", 2, 11, 9)]
    assert found[0].output == pytest.approx(1600, rel=0.01) and found[1].output == pytest.approx(-900, rel=0.01)
    w[20], x[1] = 3, 30
    w[5, 7] = w[11, 9] = 0
    assert _of_matrix("name", 0, x, w) == []


def test_the_largest(model: Path) -> None:
    found = largest(model)
    own = [weight for weight in found if weight.tensor == planted.TENSOR]
    # 0.01 % of 65,536 weights.
    assert len(own) == 7 and PLACE in [weight[:4] for weight in own]
    w = np.array(dict(small.tensors(small.MODELS["llama"], 0))["blk.1.ffn_down.weight"])
    others = [weight for weight in found if weight.tensor == "blk.1.ffn_down.weight"]
    assert sorted(abs(weight.value) for weight in others) == sorted(np.sort(np.abs(w).ravel())[-7:].tolist())
    assert not any("norm" in weight.tensor for weight in found)


def test_what_another_file_makes_of_them(model: Path, tmp_path: Path) -> None:
    (found,) = by_spikes(model, ids_of(model), "exact")
    assert changes(model, [found]) == [0]
    other = planted.write(tmp_path / "other.gguf", value=2.7)
    assert changes(other, [found]) == [pytest.approx(0.1)]
    for wrong in (found._replace(tensor="x"), found._replace(row=256), found._replace(matrix=1)):
        with pytest.raises(ModelError, match="is another model"):
            changes(model, [SuperWeight(*wrong)])
