"""Ways to spoil the tensors of a model, as storage, transfer and memory do: where, and what must be found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import Tensor, open_gguf
from reference import fetch
from tests import sources
from tests.check import sound_fleet
from tools import make_sample

PAGE = 4096
FILE_TYPE = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q5_1": 9, "Q2_K": 10, "Q3_K": 11, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18,
    "IQ2_XS": 20, "IQ4_NL": 25, "IQ3_S": 26, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37,
    "MXFP4": 38, "Q1_0": 40, "Q2_0": 41,
}  # fmt: skip


class Sound(NamedTuple):
    """A sound file whose matrices are of one type, and what it was made from; ``imatrix`` is None where none was."""

    path: Path
    source: Path
    imatrix: Path | None


def sound_files(folder: Path) -> Callable[[str], Sound]:
    """Makes a sound file by the name of its type, once; of MXFP4 one with experts, which alone take it."""
    sound_fleet.write(folder / "f32.gguf", sound_fleet.base(np.random.default_rng(1), rows=256))
    sound_fleet.write(folder / "experts.gguf", sound_fleet.STATISTICS["experts"](np.random.default_rng(2)))
    sources.write_imatrix(folder / "imatrix.gguf", make_sample.importance())

    @functools.cache
    def made(name: str) -> Sound:
        path, weighted = folder / f"{name}.gguf", name != "MXFP4"
        source = folder / ("f32.gguf" if weighted else "experts.gguf")
        assert make_sample.quantize(fetch.library_dir(), source, path, FILE_TYPE[name], 2, weighted) == 0
        return Sound(path, source, folder / "imatrix.gguf" if weighted else None)

    return made


class Patient:
    """A file's bytes, to be damaged, and where its tensors lie."""

    def __init__(self, path: Path) -> None:
        self.data, self.gguf = bytearray(path.read_bytes()), open_gguf(path)

    def changed(self, sound: Path) -> set[str]:
        """The names of the tensors whose bytes are no longer those of the sound file."""
        data = sound.read_bytes()
        spans = {t.name: slice(t.start, t.start + t.known_nbytes) for t in self.gguf.tensors}
        return {name for name, span in spans.items() if self.data[span] != data[span]}

    def tensor(self, name: str) -> Tensor:
        return next(t for t in self.gguf.tensors if t.name == f"{name}.weight")

    def span(self, name: str) -> slice:
        return slice(self.tensor(name).start, self.tensor(name).start + self.tensor(name).known_nbytes)

    def page(self, name: str, number: int = 1) -> int:
        """Where the tensor's first whole page begins, or a later one."""
        return -(-self.tensor(name).start // PAGE) * PAGE + (number - 1) * PAGE

    def block(self, name: str, number: int, field: str) -> int:
        """Where a block's field lies."""
        tensor = self.tensor(name)
        offset = FORMATS[tensor.type_name].layout.offset(field) if tensor.known_type.block_size > 1 else 0
        return tensor.start + number * tensor.known_type.type_size + offset


Injure = Callable[[Patient], None]


def fill(name: str, number: int, pages: int, value: bytes = b"\0") -> Injure:
    """Whole pages of one value, or of a text."""

    def injure(p: Patient) -> None:
        at = p.page(name, number)
        p.data[at : at + pages * PAGE] = (value * (pages * PAGE))[: pages * PAGE]

    return injure


def lose_a_page(p: Patient) -> None:
    """The first page of the tensor that begins 32 bytes or more from a row's end."""
    row = p.tensor(Q).known_nbytes // p.tensor(Q).shape[1]
    numbers = (n for n in range(1, 9) if -(p.page(Q, n) - p.tensor(Q).start) % row >= 32)
    fill(Q, next(numbers), 1)(p)


def repeat(name: str, number: int, pages: int, to: str, again: int) -> Injure:
    """Pages written once more, at another place."""

    def injure(p: Patient) -> None:
        at, there = p.page(name, number), p.page(to, again)
        p.data[there : there + pages * PAGE] = p.data[at : at + pages * PAGE]

    return injure


def exchange(name: str, one: int, other: int) -> Injure:
    def injure(p: Patient) -> None:
        a, b = p.page(name, one), p.page(name, other)
        p.data[a : a + PAGE], p.data[b : b + PAGE] = p.data[b : b + PAGE], p.data[a : a + PAGE]

    return injure


def flip(name: str, block: int, field: str, bit: int) -> Injure:
    def injure(p: Patient) -> None:
        p.data[p.block(name, block, field) + bit // 8] ^= 1 << bit % 8

    return injure


def set_float(name: str, number: int, value: float) -> Injure:
    def injure(p: Patient) -> None:
        at = p.tensor(name).start + 4 * number
        p.data[at : at + 4] = np.float32(value).tobytes()

    return injure


def both(one: Injure, other: Injure) -> Injure:
    def injure(p: Patient) -> None:
        one(p)
        other(p)

    return injure


def zero(*names: str) -> Injure:
    def injure(p: Patient) -> None:
        for name in names:
            p.data[p.span(name)] = bytes(p.tensor(name).known_nbytes)

    return injure


def copy(name: str, to: str) -> Injure:
    def injure(p: Patient) -> None:
        p.data[p.span(to)] = p.data[p.span(name)]

    return injure


def data_section(change: Callable[[bytes], bytes]) -> Injure:
    def injure(p: Patient) -> None:
        p.data[p.gguf.data_start :] = change(bytes(p.data[p.gguf.data_start :]))

    return injure


def never_written(p: Patient) -> None:
    """A download whose place was reserved, and which broke off."""
    at = p.page("blk.0.ffn_up", 4)
    p.data[at:] = bytes(len(p.data) - at)


def begins_late(p: Patient) -> None:
    at = p.page("blk.0.attn_q", 4)
    p.data[p.gguf.data_start : at] = bytes(at - p.gguf.data_start)


def swap_bytes(name: str, size: int) -> Injure:
    def injure(p: Patient) -> None:
        words = np.frombuffer(bytes(p.data[p.span(name)]), f"u{size}")
        p.data[p.span(name)] = words.byteswap().tobytes()

    return injure


def random_page(name: str, number: int) -> Injure:
    return fill(name, number, 1, np.random.default_rng(7).integers(0, 256, PAGE, np.uint8).tobytes())


Q, UP, EXPERTS = "blk.0.attn_q", "blk.1.ffn_up", "blk.0.ffn_up_exps"
TEXT = b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>\n"
INJURIES: dict[str, tuple[str, Injure, set[str]]] = {
    **{f"a lost page of {name}": (name, lose_a_page, {"P009"}) for name in FILE_TYPE if name != "MXFP4"},
    "a lost page of MXFP4": ("MXFP4", fill(EXPERTS, 3, 1), {"P009"}),
    "a page of MXFP4 written twice": ("MXFP4", repeat(EXPERTS, 1, 1, EXPERTS, 2), {"P010"}),
    "lost pages at two places": ("Q4_K", both(fill(Q, 2, 1), fill(Q, 5, 2)), {"P009"}),
    "a hole over several tensors": ("Q4_K", fill("blk.0.attn_k", 3, 40), {"P009", "P015"}),
    "a hole over several tensors of floats": ("BF16", fill("blk.0.attn_k", 3, 200), {"P009", "P015"}),
    "an end that was never written": ("Q5_K", never_written, {"P009", "P015"}),
    "a start that was never written": ("F16", begins_late, {"P009", "P014"}),
    "no data": ("Q4_0", data_section(lambda data: bytes(len(data))), {"P008"}),
    "an erased page": ("Q4_K", fill(Q, 2, 1, b"\xff"), {"P001", "P009"}),
    "an erased page of floats": ("F32", fill(Q, 2, 1, b"\xff"), {"P002", "P009"}),
    "a page of uninitialized memory": ("Q4_0", fill(Q, 2, 1, b"\xcd"), {"P009"}),
    "a page of freed memory": ("MXFP4", fill(EXPERTS, 3, 1, b"\xdd"), {"P009"}),
    "a page of a repeated word": ("F16", fill(Q, 2, 1, b"\xde\x0d\xbe\x0f"), {"P009"}),
    "a page of text": ("Q4_K", fill(Q, 2, 1, TEXT), {"P012"}),
    "a page of text in Q6_K": ("Q6_K", fill(Q, 2, 1, TEXT), {"P012"}),
    "a page of text in F16": ("F16", fill(Q, 2, 1, TEXT), {"P012"}),
    "a page of text in F32": ("F32", fill(Q, 2, 1, TEXT), {"P011"}),
    "another file's page": ("Q8_0", random_page(Q, 2), {"P012", "P013"}),
    "another file's page in Q3_K": ("Q3_K", random_page(Q, 2), {"P012"}),
    "another file's page in BF16": ("BF16", random_page(Q, 2), {"P002"}),
    "another file's page in IQ3_S": ("IQ3_S", random_page(Q, 2), {"P013"}),
    **{
        f"a page of {name} written twice": (name, repeat(Q, 1, 1, Q, 2), {"P010"})
        for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "IQ4_XS", "TQ2_0")
    },
    "pages written twice": ("Q5_K", repeat(Q, 2, 3, Q, 7), {"P010"}),
    "a page of one tensor in another": ("Q5_K", repeat(Q, 2, 2, UP, 4), {"P010"}),
    "a page of one type in another": ("Q4_K", repeat("output", 3, 1, UP, 4), {"P010"}),
    "two pages exchanged": ("Q4_K", exchange(Q, 1, 2), {"P013"}),
    "two pages of Q8_0 exchanged": ("Q8_0", exchange(Q, 1, 2), {"P013"}),
    "a norm of 1e30": ("Q4_K", set_float("blk.1.ffn_norm", 77, 1e30), {"P011"}),
    "a norm of -3e38": ("F16", set_float("output_norm", 0, -3e38), {"P011"}),
    "a norm of NaN": ("Q4_K", set_float("blk.1.ffn_norm", 77, float("nan")), {"P002"}),
    "a norm that is zero": ("Q4_K", zero("blk.1.ffn_norm"), {"P015"}),
    "the last norm is zero": ("Q6_K", zero("output_norm"), {"P014"}),
    "no embedding": ("Q4_K", zero("token_embd"), {"P014"}),
    "no output": ("IQ4_XS", zero("output"), {"P014"}),
    "a flipped bit in F32": ("F32", flip(Q, 9000, "", 30), {"P011"}),
    "a flipped bit in BF16": ("BF16", flip(Q, 9000, "", 14), {"P011"}),
    "a flipped bit in F16": ("F16", flip(Q, 9000, "", 14), {"P012"}),
    **{
        f"a flipped bit in {field} of {name}": (name, flip(Q, 31, field, 14), {"P012"})
        for name, field in [
            ("Q4_0", "d"), ("Q8_0", "d"), ("Q5_1", "m"), ("Q4_K", "d"), ("Q4_K", "dmin"), ("Q6_K", "d"),
            ("Q3_K", "d"), ("IQ2_XS", "d"), ("IQ4_XS", "d"), ("TQ2_0", "d"),
        ]
    },
    "a flipped bit in e of MXFP4": ("MXFP4", flip(EXPERTS, 31, "e", 7), {"P012"}),
    "a flipped bit in d of IQ1_M": ("IQ1_M", flip(Q, 31, "scales", 62), {"P012"}),
    **{
        f"a flipped sign of {field} of {name}": (name, flip(Q, 31, field, 15), {"P013"})
        for name, field in [
            ("Q8_0", "d"), ("Q5_1", "d"), ("Q4_K", "d"), ("Q4_K", "dmin"), ("Q2_K", "d"), ("IQ3_S", "d"),
            ("TQ1_0", "d"), ("Q1_0", "d"),
        ]
    },
    "a matrix of another layer": ("Q4_K", copy("blk.0.ffn_up", "blk.1.ffn_up"), {"P016"}),
    "a matrix of another layer in F32": ("F32", copy("blk.1.attn_q", "blk.0.attn_q"), {"P016"}),
    "a matrix of another role": ("Q5_K", copy("blk.0.ffn_gate", "blk.0.ffn_up"), {"P016"}),
    "data moved by two bytes": ("Q4_0", data_section(lambda data: b"\0\0" + data[:-2]), {"P001", "P011"}),
    "data moved by a byte in F32": ("F32", data_section(lambda data: b"\0" + data[:-1]), {"P002", "P011"}),
    "data moved by a block's half": ("Q4_K", data_section(lambda data: bytes(72) + data[:-72]), {"P001"}),
    "a matrix in the other byte order": ("F32", swap_bytes(Q, 4), {"P011"}),
    "a matrix of BF16 in the other byte order": ("BF16", swap_bytes(Q, 2), {"P002"}),
}  # fmt: skip
