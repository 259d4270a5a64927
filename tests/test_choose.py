"""The choice of a lane for NumPy arrays. What lanes cost is given here, so that nothing is timed."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.lanes import canary, choose, cores, jax_lane, kept, numpy_lane
from hifi_ref.lanes.choose import Kind
from hifi_ref.lanes.jax_lane import encoding
from hifi_ref.lanes.speeds import ENCODED_PIECE, Speed

MILLION = 1_000_000
Q4_K = Kind("encode", "Q4_K")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing was asked yet.

    A million weights take a second in NumPy; JAX starts in 4.9, or in 3.4 where anything compiled is kept.
    """
    for name, state in (("_in_jax", set()), ("_announced", set()), ("_saved", {}), ("_tensors", {})):
        monkeypatch.setattr(choose, name, state)
    monkeypatch.setattr(choose, "of_format", lambda operation, name: Speed(1.0, 1e9, 2.9))
    monkeypatch.setattr(choose, "JAX_START", 0.5)
    monkeypatch.setattr(choose, "CANARY", 1.5)
    monkeypatch.setattr(choose, "_has_started", lambda: False)
    monkeypatch.setattr(kept, "_keeping", False)
    monkeypatch.setattr(kept, "compiled", frozenset)


def test_small_work_goes_to_numpy_until_jax_would_have_paid() -> None:
    lanes = [choose.lane(Q4_K, MILLION // 2) for _ in range(12)]
    assert lanes == ["numpy"] * 9 + ["jax"] * 3


def test_much_work_goes_to_jax_at_once() -> None:
    assert choose.lane(Q4_K, 4 * MILLION) == "numpy" and choose.lane(Q4_K._replace(weighted=True), 6 * MILLION) == "jax"


def test_a_second_tensor_is_followed_by_more() -> None:
    assert [choose.lane(Q4_K, 2 * MILLION) for _ in range(3)] == ["numpy", "jax", "jax"]
    # Each kind is compiled by itself.
    assert choose.lane(Kind("encode", "Q5_K"), 2 * MILLION) == "numpy"


def test_what_is_compiled_is_still_not_worth_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "of_format", lambda operation, name: Speed(1.0, 2.0, 0.0))
    choose._in_jax.add(Q4_K)
    assert choose.lane(Q4_K, ENCODED_PIECE // 2) == "numpy" and choose.lane(Q4_K, ENCODED_PIECE) == "jax"


def test_what_an_earlier_process_compiled_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "compiled", lambda: frozenset({"encode Q4_K with importance"}))
    assert choose.lane(Q4_K, 3 * MILLION) == "numpy"
    assert choose.lane(Q4_K._replace(weighted=True), 3 * MILLION) == "jax"


def test_announced_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HIFI_REF_CACHE", str(tmp_path))
    monkeypatch.setattr(kept, "keep", lambda: None)
    # Q4_K is worth its compilation, and Q5_K is not, however often it comes.
    work = [("Q4_K", False, 3 * MILLION), ("Q5_K", False, 2 * MILLION), ("Q4_K", False, 5 * MILLION)]
    assert choose.expected(work) == pytest.approx(2 + 2.9 + 2) and not choose._in_jax
    assert choose.announce(work) == pytest.approx(2 + 2.9 + 2)
    assert choose.lane(Q4_K, MILLION) == "jax"
    assert [choose.lane(Kind("encode", "Q5_K"), 2 * MILLION) for _ in range(2)] == ["numpy", "numpy"]


def test_little_announced_work_needs_no_jax() -> None:
    assert choose.announce([("Q4_K", False, MILLION), ("Q5_K", True, MILLION)]) == pytest.approx(2)
    assert not choose._in_jax


def test_a_back_end_that_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    canary._warn_once.cache_clear()
    monkeypatch.setattr(canary, "failures", lambda platform: ("division",))
    with pytest.warns(RuntimeWarning, match="the cpu back end of jax does not compute as IEEE-754 asks") as caught:
        assert [choose.lane(Q4_K, 9 * MILLION) for _ in range(2)] == ["numpy", "numpy"]
    assert len(caught) == 1
    canary._warn_once.cache_clear()


def test_the_list_of_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(kept, "_folder", lambda: tmp_path / "jax")
    kept.note({"decode Q4_K"})
    kept.note({"decode Q4_K", "encode Q4_K"})
    assert kept.compiled() == {"decode Q4_K", "encode Q4_K"}
    assert (tmp_path / "jax" / kept.LIST).read_text() == "decode Q4_K\nencode Q4_K\n"
    (tmp_path / "jax" / kept.LIST).write_bytes(b"\xff")
    kept._listed.cache_clear()
    assert kept.compiled() == frozenset()


def test_one_small_thing_does_not_even_load_jax() -> None:
    script = """
import sys, numpy as np, hifi_ref as hr
x = np.ones((64, 256), np.float32)
for name in ("Q4_K", "Q8_0"):
    hr.decode(name, hr.encode(name, x)), hr.matmul(name, hr.encode(name, x), x[0])
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("name", ["Q4_K", "Q8_0"])
def test_one_compilation_serves_all_shapes(name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ENCODE_CHUNK", encoding.SMALL_CHUNK)
    f, rng = hr.FORMATS[name], np.random.default_rng(0)
    encoder = encoding._encoder(f, "cpu", None, "F32")
    encoder.clear_cache()
    for shape in ((1, 256), (5, 768), (3, 22, 1024), (0, 256)):
        x = rng.standard_normal(shape).astype(np.float32)
        weights = rng.random(shape[-1]).astype(np.float32) if weighted else None
        out = (*shape[:-1], shape[-1] // f.block_size * f.type_size)
        found = jax_lane.encode_in_pieces(f, x, weights, out)
        assert np.array_equal(found.reshape(-1), numpy_lane.encode(f, x, weights).reshape(-1))
    assert encoder._cache_size() == 1


def test_the_public_functions_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lanes, one after the other, through encode, decode, dot and matmul."""
    asked = []
    x = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    a = hr.encode("Q8_K", x[0])
    results = {}
    for lane in ("numpy", "jax"):
        monkeypatch.setattr(choose, "lane", lambda kind, n, lane=lane: asked.append((kind.operation, n)) or lane)
        blocks = hr.encode("Q4_K", x)
        out = np.empty(x.shape, np.float32)
        assert hr.decode("Q4_K", blocks, out=out) is out
        results[lane] = blocks, out, hr.decode("Q4_K", blocks), hr.dot("Q4_K", blocks, a), hr.matmul("Q4_K", blocks, x)
    assert all(type(y) is np.ndarray for y in results["jax"])
    assert all(np.array_equal(y, z) for y, z in zip(*results.values(), strict=True))
    counts = [("encode", 4096), ("decode", 4096), ("decode", 4096), ("dot", 4096), ("matmul", 8 * 4096)]
    assert asked == counts * 2


# ANNOUNCED WORK BESIDE ANOTHER DEVICE


WORK = [("Q4_K", False, 8 * MILLION)]


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose JAX takes a GPU by default, and the back ends that work was given to."""
    given: list[str] = []
    monkeypatch.setattr(kept, "keep", lambda: None)
    monkeypatch.setattr(choose, "_platform", choose.HERE)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(choose, "_device", lambda: {"gpu": "cuda:0"}.get(choose.platform(), "cpu"))
    whole = encoding._encode_chunks

    def chunks(f, x, weights, platform, *others):
        given.append(platform)
        return whole(f, x, weights, "cpu", *others)

    monkeypatch.setattr(encoding, "_encode_chunks", chunks)
    return given


@pytest.mark.parametrize(
    ("refused", "given", "worker"),
    [
        ((), ["gpu"], "cuda:0 (JAX)"),
        (("gpu",), ["cpu"], "cpu (JAX)"),
        (("gpu", "cpu"), [], "cpu (NumPy, since no back end of JAX is exact here)"),
    ],
)
def test_the_default_device_does_what_is_announced(
    monkeypatch: pytest.MonkeyPatch, asked_for: list[str], refused: tuple[str, ...], given: list[str], worker: str
) -> None:
    """If its canary passes; else the processor's JAX; and NumPy only where that fails too, which is said."""
    monkeypatch.setattr(canary, "failures", lambda platform: ("division",) if platform in refused else ())
    monkeypatch.setattr(canary, "_warn_once", lambda platform: None)
    choose.announce(WORK)
    assert choose.workers("encode") == ()
    x = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    monkeypatch.setattr(choose, "ENCODED_PIECE", 1 << 12)
    assert np.array_equal(hr.encode("Q4_K", x), hr.encode("Q4_K", x, lane="numpy"))
    assert (asked_for, choose.workers("encode")) == (given, (worker,))


def test_a_default_device_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, asked_for: list[str]) -> None:
    def broken(platform: str) -> tuple[str, ...]:
        if platform == "gpu":
            raise RuntimeError("no memory")
        return ()

    monkeypatch.setattr(canary, "failures", broken)
    choose.announce(WORK)
    assert choose.platform() == "cpu" and choose.lane(Q4_K, MILLION) == "jax"


def test_what_nobody_announced_stays_here(monkeypatch: pytest.MonkeyPatch, asked_for: list[str]) -> None:
    monkeypatch.setattr(canary, "failures", lambda platform: ())
    assert choose.lane(Q4_K, 9 * MILLION) == "jax" and choose.platform() == "cpu"
    choose.announce(WORK)
    choose.announce([("Q4_K", False, MILLION)])
    assert choose.platform() == "cpu"


def test_a_thread_that_keeps_to_one_core() -> None:
    def threads() -> set[int]:
        found = set()
        cores.each(lambda _: found.add(threading.get_ident()), range(4))
        return found

    assert threading.get_ident() not in threads()
    with ThreadPoolExecutor(1, initializer=cores.keep_to_one) as pool:
        assert pool.submit(threads).result() == {pool.submit(threading.get_ident).result()}
