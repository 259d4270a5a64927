"""Logits, tokens and importance sums have the very bits of the release, which is asked about the same files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.models import exact_mode
from reference.language_model import Question, ask
from tests.models import small

CASES = [(name, mixed) for name in small.MODELS for mixed in (False, True)]
# The release collects nothing of a batch below 16 rows, but for experts.
SEQUENCES = (31, 12)
STRINGS = [
    text.encode()
    for text in (
        "", " ", "a", " Hello  the weather ", "\n", "\n\n \n", "\t\tx", "I'll we've THEY'RE don't O'Neil", "12345 3.14",
        "na\u00efve \u201cquotes\u201d \u2026", "\u4e2d\u6587\u5b57\uff0c\u041f\u0440", "\U0001f642\U0001f680 x\u00b2",
        "a\r\nb\r\n", "<s> </s> <unk> <0x41>", "<|endoftext|> x<|user|> \n hi<|mark|>  <|user|>  ", "\u2581under\u2581",
        "e\u0301 \u00a0 \u3000 \u200b.", "     five", "trailing   ", small.TEXT,
    )
]  # fmt: skip
WAYS = ((True, False), (False, False), (True, True))

# The release is asked once.
pytestmark = pytest.mark.xdist_group("logits")


class Asked:
    """The files, and what the release says of each."""

    def __init__(self, folder: Path) -> None:
        self.paths = {case: small.write(folder / f"{case[0]}-{case[1]}.gguf", *case) for case in CASES}
        self.ids = {
            name: models.tokenize(self.paths[name, False], small.TEXT.encode(), True, False) for name, _ in CASES
        }
        texts = [(text.hex(), *way) for text in STRINGS for way in WAYS]
        questions = [
            Question(str(self.paths[name, mixed]), self.ids[name][:n], texts if n == SEQUENCES[0] else (), "inputs")
            for name, mixed in CASES
            for n in SEQUENCES
        ]
        answers = iter(ask(questions))
        self.answers = {case: [next(answers) for _ in SEQUENCES] for case in CASES}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("models"))


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint32)


@pytest.mark.parametrize(("name", "mixed"), CASES)
def test_every_logit(asked: Asked, name: str, mixed: bool) -> None:
    for n, answer in zip(SEQUENCES, asked.answers[name, mixed], strict=True):
        got = models.logits(asked.paths[name, mixed], asked.ids[name][:n])
        assert got.dtype == np.float32 and got.shape == answer["logits"].shape
        np.testing.assert_array_equal(bits(got), bits(answer["logits"]))


def test_another_order_of_additions_is_seen(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_mode, "float_products", lambda w, x: x @ w.swapaxes(-1, -2))
    got = models.logits(asked.paths["llama", False], asked.ids["llama"][:31])
    assert (bits(got) != bits(asked.answers["llama", False][0]["logits"])).any()


@pytest.mark.parametrize("name", small.MODELS)
def test_ids(asked: Asked, name: str) -> None:
    answer = asked.answers[name, False][0]
    for i, text in enumerate(STRINGS):
        for k, way in enumerate(WAYS):
            want = answer[f"text {i * len(WAYS) + k}"].tolist()
            assert models.tokenize(asked.paths[name, False], text, *way) == want, (text, way)


@pytest.mark.parametrize(("name", "mixed"), CASES)
def test_importance_sums(asked: Asked, name: str, mixed: bool) -> None:
    sequences = [asked.ids[name][:n] for n in SEQUENCES]
    got = models.imatrix(asked.paths[name, mixed], sequences)
    want = collected(asked.answers[name, mixed])
    assert got.keys() == want.keys()
    for tensor, (sums, counts) in want.items():
        np.testing.assert_array_equal(bits(got[tensor][0]), bits(sums), tensor)
        np.testing.assert_array_equal(got[tensor][1], counts, tensor)


def collected(answers: list[Mapping[str, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Row by row, of the inputs that the release's own graph had."""
    out: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for answer in answers:
        for key in (key for key in answer if " input " in key):
            number, _, tensor = key.split(" ")
            x, chosen = answer[key][0], answer.get(f"{number} chosen {tensor}")
            if chosen is None and (x.shape[1] < 16 or not tensor.startswith("blk.")):
                continue
            matrices = 1 if chosen is None else small.EXPERTS
            sums, counts = out.setdefault(
                tensor, (np.zeros((matrices, x.shape[-1]), np.float32), np.zeros(matrices, np.int64))
            )
            slots = range(1 if chosen is None else chosen.shape[-1])
            for slot in slots:
                for row in range(x.shape[1] if chosen is None else chosen.shape[-2]):
                    matrix = 0 if chosen is None else chosen[0, 0, row, slot]
                    vector = x[0, row] if chosen is None else x[row, slot % x.shape[1]]
                    sums[matrix] += vector * vector
                    counts[matrix] += 1
    return out
