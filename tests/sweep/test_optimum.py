"""The least loss that blocks can hold is that of trying everything; no encoder is below it, and some reach it."""

from __future__ import annotations

import numpy as np
import pytest

from hifi_ref import api, exact
from hifi_ref.formats import FORMATS
from hifi_ref.sweep.configurations import configurations
from hifi_ref.sweep.optimum import encoders, formats, search

RNG = np.random.default_rng(0)
BINARY16 = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)


def kinds(block: int) -> np.ndarray:
    """f64[rows, block]: weights of several kinds, as float32 has them."""
    gauss = RNG.standard_normal((3, block))
    rows = [*gauss, 0.02 * gauss[0], 1e-6 * gauss[1], RNG.standard_t(2, block), np.abs(gauss[0]), np.zeros(block),
            np.full(block, 0.3), np.where(gauss[1] > 0, 0.7, -0.1), 3 + 0.01 * gauss[2]]  # fmt: skip
    return np.array(rows).astype(np.float32).astype(np.float64)


def tried(x: np.ndarray, levels: np.ndarray, scales: np.ndarray) -> float:
    """The least error over these scales of one block."""
    least = float(np.square(x).sum())
    for s in np.array_split(scales, -(-len(scales) // 500)):
        y = s[:, None] * levels
        error = np.square(x[None, :, None] - y[:, None, :]).min(axis=2).sum(axis=1)
        least = min(least, float(error.min()))
    return least


@pytest.mark.parametrize("levels", [formats.IQ4, np.arange(-1.0, 3.0), np.array([-1.0, 1.0])], ids=len)
def test_every_scale_of_binary16(levels: np.ndarray) -> None:
    x = kinds(16)
    found = search.over_binary16(x, levels)
    wanted = [min(tried(row, levels, BINARY16), tried(row, levels, -BINARY16)) for row in x]
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-18)


def test_every_scale_and_min_of_binary16() -> None:
    """Of blocks with few weights and codes, and with scales and mins around those that can be good."""
    most = 3
    for x in kinds(6)[[0, 3, 5, 9, 10]]:
        found = search.over_binary16_with_min(x[None], most, np.array([np.inf]))[0]
        reach = max(np.ptp(x), 1e-7)
        scales = BINARY16[(BINARY16 > reach / 12) & (BINARY16 < 1.2 * reach)][::3]
        least = min(tried_with_min(own, most, scales) for own in (x, -x))
        assert found <= least * (1 + 1e-9) + 1e-18
        # A third of the scales comes close to all of them.
        assert found >= 0.9 * least or least < 1e-6 * np.square(x).sum()


def tried_with_min(x: np.ndarray, most: int, scales: np.ndarray) -> float:
    mins = np.unique(np.linspace(x.min() - 0.3 * np.ptp(x), x.min() + 0.6 * np.ptp(x), 4000).astype(np.float16))
    rest = x[None, :] - mins.astype(np.float64)[:, None]
    return min(float(np.square(rest - np.clip(np.rint(rest / s), 0, most) * s).sum(axis=1).min()) for s in scales)


def test_all_scales_of_binary16_with_min() -> None:
    """What is not tried is no better: the same with every scale and no bound."""
    for x in kinds(6)[[1, 4, 7, 8, 9]]:
        all_scales = [search._over_mins(own, 3, BINARY16[1:])[1].min() for own in (x, -x)]
        of_none = np.square(x - float(np.float16(x.mean()))).sum()
        found = search.over_binary16_with_min(x[None], 3, np.array([np.inf]))[0]
        assert found == pytest.approx(min(*all_scales, of_none), rel=1e-9, abs=1e-18)


def test_lists_of_scales_and_mins() -> None:
    x = kinds(16)
    scales = RNG.standard_normal((len(x), 9)) * 0.2
    scales[:, 3] = 0
    levels = np.arange(-4.0, 4.0)
    wanted = [tried(row, levels, own) for row, own in zip(x, scales, strict=True)]
    assert search.over_scales(x, levels, scales) == pytest.approx(wanted, rel=1e-12)
    mins = RNG.standard_normal((len(x), 5))
    wanted = [
        min(tried(row - m, np.arange(4.0), own) for m in lows) for row, own, lows in zip(x, scales, mins, strict=True)
    ]
    assert search.over_scales_and_mins(x, 3, scales, mins) == pytest.approx(wanted, rel=1e-12)


def test_what_formats_can_store() -> None:
    """Every level and scale is one that the decoder reads."""
    for name, form in formats.FORMS.items():
        f = FORMATS[name]
        assert f.block_size % form.sub_block == 0
        raw = RNG.integers(0, 256, (400, f.type_size)).astype(np.uint8)
        with np.errstate(invalid="ignore"):
            y = api.decode(name, raw).reshape(-1, form.sub_block).astype(np.float64)
        y = y[np.isfinite(y).all(axis=1) & (np.abs(y).max(axis=1) < 1e30)]
        # Weights that some block holds exactly lose nothing, but where its super-scale is another's.
        if not form.given:
            own = y[: 2 if name in ("Q4_1", "Q5_1") else 40]
            least = form.least(formats.Blocks(own, raw, 1e-6 * np.square(own).sum(axis=1), name))
            assert least == pytest.approx(np.zeros(len(own)), abs=1e-9 * np.square(own).sum())
    assert np.isfinite(exact.widen_ue4m3_half(formats.BYTES)).all()


def test_no_encoder_is_below() -> None:
    x = (0.02 * RNG.standard_t(4, (1, 512))).astype(np.float32)
    found = encoders.distances(x, configurations(["llama.cpp", "hyper-single", "neighbours"]))
    assert {d.format for d in found} == formats.FORMS.keys()
    assert len(found) == len(formats.FORMS) + sum(map(len, encoders.ALSO_WRITTEN.values()))
    assert all(d.ratio > 1 - 1e-6 for d in found)
    ratios = {(d.format, d.encoder): d.ratio for d in found}
    assert ratios["Q1_0", "llama.cpp"] == pytest.approx(1, abs=1e-3)
    assert ratios["Q4_0", "llama.cpp"] > 1.01 and ratios["Q2_0", "llama.cpp"] > 1.3
    assert {d.format for d in found if d.given} == {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}
    assert [d.encoder for d in encoders.distances(x, configurations(["hyper-single"]))][0] == "hyper 4s/32 fp16"
