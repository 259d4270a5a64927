"""How a dot product adds and multiplies wrongly is told from its answers, and not confused with what is near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hifi_ref import api
from hifi_ref.conform import diagnose, dot_numbers
from hifi_ref.conform.judge import EXACT, Verdict
from hifi_ref.formats import LLAMA_CPP
from tests.conform.helpers import SUITES, Reference, cell_of

# A plain kernel's numbers of a row: codes and activations [blocks, 256], scales [blocks, 16], d and da [blocks, 1].
Plain = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def q6_k(kernel: Plain) -> Reference:
    """kernel(codes, q, scales, d * da) -> what the blocks add"""

    class Planted(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            rows = [self.row(row.reshape(-1, 210), a.reshape(-1, 292)) for row in w]
            return np.array(rows, np.float32)

        def row(self, w: np.ndarray, a: np.ndarray) -> float:
            plain = w.copy()
            plain[:, 192:208], plain[:, 208:] = 1, (0, 0x3C)
            codes, q = api.decode("Q6_K", plain, lane="numpy").reshape(-1, 256), a[:, 4:260].view(np.int8)
            with np.errstate(all="ignore"):
                d = np.ascontiguousarray(w[:, 208:]).view("<f2") * np.ascontiguousarray(a[:, :4]).view("<f4")
                return kernel(codes.astype(float), q.astype(float), w[:, 192:208].view(np.int8), d).sum()

    return Planted()


def sums(x: np.ndarray, run: int = 16) -> np.ndarray:
    return x.reshape(len(x), -1, run).sum(axis=-1)


def carried_in(run: int) -> Plain:
    def kernel(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
        running = np.cumsum(sums(codes * q).reshape(len(codes), -1, run), axis=-1)
        return d * scales * running.reshape(len(codes), 16)

    return kernel


def in_16_bits(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * (sums(codes * q) * scales).astype(np.int64).astype(np.int16)


def in_8_bits(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * scales * sums((codes * q).astype(np.int64).astype(np.int8))


def every_fourth(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * scales * sums(codes * q.reshape(-1, 64, 4).swapaxes(1, 2).reshape(-1, 256))


def further_on(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    moved = q.copy()
    moved[:, 128:192] = q[:, 160:224]
    return d * scales * sums(codes * moved)


def right(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * scales * sums(codes * q)


def a_quarter(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return right(codes, q, scales, d) * 0.25


def half_counted(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return right(codes, q, scales, d) * np.repeat([1.0, 1.5], 8)


def each_second_block(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return right(codes, q, scales, d)[::2]


def one_scale_in_eight(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * np.where(np.arange(16) < 8, scales, scales[:, :1]) * sums(codes * q)


def short_steps(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    at = np.arange(256)
    return d * scales * sums(codes * q[:, at // 128 * 32 + at % 32])


def unsigned_scales(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d * scales.view(np.uint8) * sums(codes * q)


def two_accumulators(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
    running = np.cumsum(sums(codes * q).reshape(-1, 8, 2), axis=1)
    return d * scales * running.reshape(-1, 16)


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (carried_in(2), "the sums of 16 products are carried on to the next, within each 32 weights"),
        (carried_in(4), "the sums of 16 products are carried on to the next, within each 64 weights"),
        (in_16_bits, "Keeps sums of 16 products with their scales in 16 bits."),
        (in_8_bits, "Keeps products in 8 bits."),
        (every_fourth, "weight 1 meets activation 4, 2 meets activation 8, 3 meets activation 12"),
        (further_on, "Takes activations 32 places further on: weight 128 meets activation 160"),
        (further_on, "in weights 128 to 191 of each 256 alone"),
        (a_quarter, "Every answer is 0.25 times the right one"),
        (half_counted, "Counts what is to be added 1.5 times, in weights 128 to 255 of each 256 alone."),
        (short_steps, "Goes on by 32 activations instead of 128, and takes 32 over and over"),
        (two_accumulators, "16 products are carried on to those 2 further on, one of 2 accumulators each"),
        (each_second_block, "Leaves out each second block of a row."),
    ],
)
def test_a_kernel_that_adds_wrongly_is_named_for_it(kernel: Plain, says: str) -> None:
    found = diagnose.diagnose(cell_of(q6_k(kernel), "Q6_K.dot"))
    assert found is not None and says in found.says and found.bug is None


def test_scales_without_their_signs_are_told_in_words_of_the_decoder() -> None:
    found = diagnose.diagnose(cell_of(q6_k(unsigned_scales), "Q6_K.dot"))
    assert found is not None and "unsigned" in found.says and found.matches == found.of


def test_the_plain_kernel_is_right() -> None:
    assert not cell_of(q6_k(right), "Q6_K.dot").failures


def test_what_no_way_gives_is_not_named() -> None:
    """Half of the products in 16 bits and a scale from elsewhere: two bugs at once."""

    def two(codes: np.ndarray, q: np.ndarray, scales: np.ndarray, d: np.ndarray) -> np.ndarray:
        return one_scale_in_eight(codes, np.roll(q, 3, axis=1) * np.where(q > 50, 0.7, 1), scales, d)

    found = diagnose.diagnose(cell_of(q6_k(two), "Q6_K.dot"))
    assert found is None or found.matches < found.of


@pytest.mark.parametrize("name", [name for name, f in LLAMA_CPP.items() if (f.dot_with or "").startswith("Q8")])
def test_the_numbers_of_a_dot_product_give_its_result(name: str) -> None:
    cases = [c for c in SUITES[f"{name}.dot"].cases if np.isfinite(c.expected).all() and c.result == "valid"]
    known = [dot_numbers.case_of(name, Verdict(c, EXACT, c.expected)) for c in cases]
    assert sum(one is not None for one in known) >= 0.8 * len(cases)
