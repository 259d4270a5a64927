"""The HIFI fork: its rules at their thresholds, the roadmaps' plans, and rows that do not fit."""

from __future__ import annotations

import pytest

from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.mixtures import hifi, kept, roadmaps, rows, rules
from hifi_ref.mixtures.hifi import Model, fork_format


def formats(file_type: str, kind: str, size: float, layers: int = 32, **model: object) -> list[str]:
    described = Model(size, layers, **model)
    return [fork_format(file_type, f"blk.{i}.{kind}.weight", described) for i in range(layers)]


def test_the_size_is_the_forks_estimate() -> None:
    assert hifi.size_of(4096, 32, 11008, 32000) == pytest.approx(6.738, abs=1e-3)


def test_more_bits_go_to_the_ends_and_every_third_layer() -> None:
    chosen = [i for i in range(32) if rules.more_bits(i, 32)]
    assert chosen == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, *range(28, 32)]


def test_q4_k_hifi() -> None:
    residual = formats("Q4_K_HIFI", "attn_v", 1.0)
    assert residual.count("Q5_K_HIFI_RES8") == 11 and set(residual) == {"Q5_K_HIFI_RES8", "Q6_K", "Q4_K_HIFI"}
    assert formats("Q4_K_HIFI", "attn_v", 70.0).count("Q6_K_HIFI_RES8") == 1
    assert formats("Q4_K_HIFI", "ffn_gate", 1.0).count("Q5_K_HIFI_RES8") == 6
    assert set(formats("Q4_K_HIFI", "ffn_gate", 1.01)) == {"Q4_K_HIFI"}
    assert set(formats("Q4_K_HIFI", "attn_q", 7.0)) == {"Q4_K"}
    assert fork_format("Q4_K_HIFI", "output.weight", Model(5.0, 32)) == "Q5_K_HIFI_RES8"
    assert fork_format("Q4_K_HIFI", "token_embd.weight", Model(5.1, 32)) == "Q6_K_HIFI_RES8"


def test_q3_k_hifi() -> None:
    assert set(formats("Q3_K_HIFI", "attn_q", 2.0)) == {"Q4_K"}
    assert set(formats("Q3_K_HIFI", "attn_q", 2.1)) == {"Q3_K_HIFI"}
    assert set(formats("Q3_K_HIFI", "ffn_up", 10.1)) == {"Q4_K"}
    assert formats("Q3_K_HIFI", "ffn_down", 7.0)[:3] == ["Q5_K", "Q5_K", "Q4_K"]
    assert fork_format("Q3_K_HIFI", "token_embd.weight", Model(1.7, 32)) == "Q4_K"
    assert fork_format("Q3_K_HIFI", "token_embd.weight", Model(1.7, 32, tied=True)) == "Q6_K"


def test_q5_and_q2() -> None:
    assert "Q5_K_HIFI_RES8" not in formats("Q5_K_HIFI", "attn_v", 1.7)
    assert formats("Q5_K_HIFI", "attn_v", 3.0).count("Q5_K_HIFI_RES8") == 2
    assert set(formats("Q2_K_HIFI", "attn_k", 7.0)) == {"Q2_K_HIFI"}
    assert set(formats("Q2_K_HIFI", "ffn_up", 7.0)) == {"Q2_K"}
    assert set(formats("Q2_K_HIFI", "attn_k", 7.0, experts=8)) == {"Q8_0"}
    assert "Q4_K" not in formats("Q3_K_HIFI", "attn_v", 70.0, layers=80, seventy=True)


def test_lite() -> None:
    kinds = ("output", "token_embd", "blk.3.attn_v", "blk.3.ffn_down")
    expected = {
        "Q2_K_LITE": ["Q3_K_LITE", "Q3_K_LITE", "Q2_K_LITE", "Q3_K_LITE"],
        "Q5_K_LITE": ["Q6_K_LITE", "Q6_K_LITE", "Q5_K_LITE", "Q5_K_LITE"],
        "Q6_K_LITE": ["Q8_0", "Q8_0", "Q6_K_LITE", "Q6_K_LITE"],
    }
    for file_type, formats in expected.items():
        assert [fork_format(file_type, f"{kind}.weight", Model(7.0, 32)) for kind in kinds] == formats
    assert [hifi.FORK_FILE_TYPES[f"Q{bits}_K_LITE"] for bits in range(2, 7)] == [48, 49, 50, 51, 52]


@pytest.mark.parametrize(("size", "count"), [(2.0, 0), (5.0, 7), (10.0, 5), (20.0, 4), (70.0, 3)])
def test_importance_picks_out_tensors(size: float, count: int) -> None:
    importance = {f"blk.{i}.attn_q.weight": 0.2 + i / 50 for i in range(20)} | {"blk.0.ffn_down.weight": 0.9}
    chosen = hifi.guided_tensors(importance, size)
    assert chosen == {f"blk.{i}.attn_q.weight" for i in range(20 - count, 20)}
    even = dict.fromkeys(importance)
    assert len(hifi.guided_tensors(even, size)) == (20 if count else 0)
    assert hifi.guided_tensors({}, size) == set()


def test_counts_of_outliers() -> None:
    model = Model(7.0, 32)
    for name in ("Q3_K_HIFI", "Q4_K_HIFI"):
        counts = [hifi.fork_outliers("blk.0.attn_q.weight", name, model, i) for i in (None, 0.8, 0.5, 0.2)]
        assert counts == [6, 8, 6, 4]
    assert hifi.fork_outliers("output.weight", "Q6_K_HIFI_RES8", model) == 8
    assert [hifi.outliers_by_depth(i, 32, 0.5, 3.0) for i in (0, 15, 31)] == [8, 5, 2]
    assert hifi.fork_outliers("blk.0.attn_q.weight", "Q4_K", model) is None


def test_the_roadmaps() -> None:
    assert [roadmaps.automatic_mix(s) for s in (0.5, 2, 3, 10, 11)] == [
        "Q3_K_HIFI", "Q3_K_HIFI", "Q4_K_HIFI_M", "Q4_K_HIFI_M", "Q4_K_HIFI_L"
    ]  # fmt: skip
    for kind in ("output", "token_embd", "blk.3.attn_v", "blk.3.ffn_down", "blk.3.ffn_gate"):
        assert roadmaps.roadmap_format("Q4_K_HIFI_M", f"{kind}.weight") == "Q4_K_HIFI"
    assert roadmaps.roadmap_format("Q4_K_HIFI_M", "blk.3.attn_q.weight") == "Q4_K"
    assert all(name in FORMATS for mix in roadmaps.ROADMAP.values() for name in mix)


def test_rows_that_do_not_fit() -> None:
    asked = ("Q4_K", "Q2_K", "Q2_K_HIFI", "Q6_K_HIFI_RES8", "TQ1_0", "Q4_0")
    assert [rows.that_fits(f, 96) for f in asked] == ["Q5_0", "Q4_0", "Q4_0", "Q8_0", "Q4_0", "Q4_0"]
    in_the_fork = [rows.that_fits(f, 96, rows.FORK_FALLBACK) for f in asked]
    assert in_the_fork == ["Q5_0", "IQ4_NL", "IQ4_NL", "Q8_0", "Q4_0", "Q4_0"]
    assert {rows.that_fits(f, 7) for f in LLAMA_CPP} <= {"F16", "F32", "BF16"}


def test_what_is_quantized() -> None:
    assert kept.is_quantized("blk.0.ffn_up_exps.weight", (256, 8, 4))
    assert not kept.is_quantized("blk.0.attn_norm.weight", (256,))
    assert not kept.is_quantized("blk.0.ffn_gate_inp.weight", (256, 8))
    assert not kept.is_quantized("rope_freqs", (64, 64))
