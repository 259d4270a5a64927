"""Bits from another place and codes taken for other values are told from the answers, in decoders and dot products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hifi_ref import api
from hifi_ref.conform import diagnose
from tests.conform.helpers import Reference, cell_of, spoilt

Blocks = Callable[[np.ndarray], np.ndarray]


def said(module: Reference, name: str) -> str:
    found = diagnose.diagnose(cell_of(module, name))
    return "" if found is None else found.says


def fifth_bits(far: int) -> Blocks:
    """Q5_0: those of weights 16 to 31 from so many bits further on."""

    def change(blocks: np.ndarray) -> np.ndarray:
        word = np.ascontiguousarray(blocks[:, 2:6]).view("<u4")
        high = (word >> 16 >> np.uint32(far)) << 16
        return np.concatenate([blocks[:, :2], (word & 0xFFFF | high).view(np.uint8), blocks[:, 6:]], axis=1)

    return change


@pytest.mark.parametrize("far", [2, 4, 7])
def test_bits_that_are_taken_too_far_on(far: int) -> None:
    says = said(spoilt("Q5_0", fifth_bits(far)), "Q5_0.decode")
    assert f"Reads the high bits (bit 4) of the codes from {far} bits further on, and 0 beyond" in says
    assert "in weights 16 to 31" in says


def test_the_same_in_a_dot_product() -> None:
    says = said(spoilt("Q5_0", fifth_bits(4)), "Q5_0.dot")
    assert (
        "Reads the high bits (bit 4) of the codes from 4 bits further on, and 0 beyond" in says
        and "weights 16 to 31" in says
    )


def decoded(change: Callable[[np.ndarray], np.ndarray]) -> Reference:
    class Changed(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            return change(blocks.reshape(-1, 18)).astype(np.float32)

    return Changed()


@pytest.mark.parametrize(("code", "value"), [(14, 98), (3, -66), (8, -1)])
def test_a_table_with_one_other_entry(code: int, value: int) -> None:
    steps = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
    right = steps[code]

    def change(blocks: np.ndarray) -> np.ndarray:
        codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
        table = np.where(np.arange(16) == code, value, steps).astype(np.float32)
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32) * table[codes]

    says = said(decoded(change), "IQ4_NL.decode")
    assert says == f"Reads the code {code} as {value}, where {right} is right."


def test_a_table_with_one_other_entry_in_a_dot_product() -> None:
    class Mistyped(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            blocks, q = w.reshape(-1, 18), a.reshape(-1, 34)
            codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).reshape(len(w), -1)
            d, da = (np.ascontiguousarray(x[:, :2]).view("<f2").astype(np.float32)[:, 0] for x in (blocks, q))
            with np.errstate(all="ignore"):
                more = (codes == 14).reshape(len(w), -1, 32) * q[:, 2:].view(np.int8) * 9.0
                extra = (more.sum(axis=-1) * d.reshape(len(w), -1) * da).sum(axis=-1)
                return (api.dot(name, w, a, lane="numpy") + extra).astype(np.float32)

    assert said(Mistyped(), "IQ4_NL.dot") == "Reads what is 89 as 98."


def test_signs_of_the_first_four_for_the_second_four() -> None:
    class Signs(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            values = super().decode(name, blocks).reshape(-1, 2, 4)
            return np.copysign(values, values[:, :1]).reshape(len(blocks), -1)

    assert said(Signs(), "IQ3_XXS.decode").startswith("Takes the first of two runs of 4 signs for both")
