"""The sample model: the release computes and tokenizes it with the same bits, and it really predicts."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.models import measures
from reference.language_model import Question, ask
from tests.paths import DATA
from tools.roadmaps.measure import CONTEXT, Sample, sample

FOLDER = DATA / "model"
MODEL = FOLDER / "model-F16.gguf"
PROMPT = b'    """Return the mean of the array'
GREEDY = 12


@pytest.fixture(scope="module")
def read() -> Sample:
    return sample(FOLDER, 3)


def test_it_is_small_enough_for_every_type() -> None:
    assert MODEL.stat().st_size < 4_000_000
    matrices = [tensor for tensor in open_gguf(MODEL).tensors if len(tensor.shape) > 1]
    assert all(tensor.shape[0] % 256 == 0 and tensor.type_name == "F16" for tensor in matrices)


def test_the_release_says_the_same() -> None:
    """Ids, every bit of every logit, and so what is generated greedily."""
    start = models.tokenize(MODEL, PROMPT, special=True, parse=False)
    ids = list(start)
    for _ in range(GREEDY):
        ids.append(int(models.logits(MODEL, ids)[-1].argmax()))
    held_out = (FOLDER / "held-out.txt").read_bytes()[:3000]
    texts = [(text.hex(), True, False) for text in (PROMPT, held_out)]
    (answer,) = ask([Question(str(MODEL), ids, texts)])
    assert answer["text 0"].tolist() == list(start)
    assert answer["text 1"].tolist() == list(models.tokenize(MODEL, held_out, special=True, parse=False))
    ours = models.logits(MODEL, ids)
    assert np.array_equal(ours.view(np.uint32), answer["logits"].view(np.uint32))
    assert ours.argmax(axis=1)[len(start) - 1 : -1].tolist() == ids[len(start) :]


def test_it_predicts_better_than_a_compressor(read: Sample) -> None:
    """In bits a byte of the held-out text, which gzip sees whole."""
    text = (FOLDER / "held-out.txt").read_bytes()
    ids = models.tokenize(MODEL, text, special=True, parse=False)
    where = measures.scored(CONTEXT)
    nll = [
        measures.negative_log_likelihoods(base, np.array(chunk[where.start + 1 : where.stop + 1]), "fast")
        for chunk, base in zip(read.chunks, read.base, strict=True)
    ]
    bits = float(np.mean(nll)) / math.log(2) * len(ids) / len(text)
    assert 1 < bits < 0.8 * 8 * len(gzip.compress(text)) / len(text)
