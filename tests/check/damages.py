"""Ways to spoil a small sound model: each a function of the whole file's content or bytes, with what must be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

from hifi_ref.model_files.gguf_file import open_gguf
from tests.check.rewrite import Content, read, write

UINT32, STRING, ARRAY = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY


class Damage(NamedTuple):
    """``spoil`` writes the damaged file to a path, from that of the sound one.

    ``plain`` and ``sourced`` are the codes that must be found without and with the source, ``kind`` the verdicts.
    """

    spoil: Callable[[Path, Path], None]
    plain: set[str]
    sourced: set[str]
    kind: tuple[str, str]


def edited(edit: Callable[[Content], object]) -> Callable[[Path, Path], None]:
    def spoil(sound: Path, path: Path) -> None:
        content = read(sound)
        edit(content)
        write(path, content)

    return spoil


def patched(patch: Callable[[bytearray, Callable[[str], int]], object]) -> Callable[[Path, Path], None]:
    """``patch`` takes the file's bytes, and a function that says where a tensor starts."""

    def spoil(sound: Path, path: Path) -> None:
        data, tensors = bytearray(sound.read_bytes()), {t.name: t for t in open_gguf(sound).tensors}
        patch(data, lambda name: tensors[name].start)
        path.write_bytes(data)

    return spoil


def cut(at: int) -> Callable[[Path, Path], None]:
    def spoil(sound: Path, path: Path) -> None:
        path.write_bytes(sound.read_bytes()[:at])

    return spoil


def put(data: bytearray, at: int, raw: bytes) -> None:
    data[at : at + len(raw)] = raw


def rename(content: Content, old: str, new: str) -> None:
    content.tensors[new] = content.tensors.pop(old)


def exchange(content: Content, one: str, other: str) -> None:
    tensors = content.tensors
    tensors[one], tensors[other] = tensors[other], tensors[one]


def fill(content: Content, name: str, value: int) -> None:
    content.tensors[name][0][:] = value


Q, UP = "blk.0.attn_q.weight", "blk.0.ffn_up.weight"
SHORT = ([f"<0x{byte:02X}>" for byte in range(255)], ARRAY, STRING)
# The verdicts without and with the source.
BROKEN, NO_LOAD, ODD = ("broken",) * 2, ("will not load in llama.cpp",) * 2, ("not sound",) * 2
DAMAGED, OTHER = ("sound", "damaged against its source"), ("sound", "not reproduced")

DAMAGES = {
    "cut in a tensor": Damage(cut(-9999), {"G018"}, set(), BROKEN),
    "cut in the metadata": Damage(cut(999), {"G003"}, {"E007"}, BROKEN),
    "bytes behind": Damage(patched(lambda d, at: d.extend(bytes(99))), {"G020"}, set(), ODD),
    "tensor lost": Damage(edited(lambda c: c.tensors.pop(UP)), {"L004"}, {"E007"}, NO_LOAD),
    "layer lost": Damage(
        edited(lambda c: [c.tensors.pop(n) for n in list(c.tensors) if n.startswith("blk.0.")]),
        {"L004"},
        {"E007"},
        NO_LOAD,
    ),
    # The release takes it for a model whose output is its embedding.
    "output lost": Damage(edited(lambda c: c.tensors.pop("output.weight")), {"G025"}, {"E007"}, OTHER),
    "tensor renamed": Damage(
        edited(lambda c: rename(c, UP, UP + "s")), {"G025", "L004", "L006"}, {"E006", "E007"}, NO_LOAD
    ),
    "tensor too many": Damage(
        edited(lambda c: c.tensors.update({"blk.1.attn_norm.weight": c.tensors["blk.0.attn_norm.weight"]})),
        {"L006"},
        {"E006"},
        NO_LOAD,
    ),
    "tensors of other shapes exchanged": Damage(
        edited(lambda c: exchange(c, Q, "blk.0.attn_k.weight")), {"L005"}, {"E008"}, NO_LOAD
    ),
    "tensors exchanged": Damage(edited(lambda c: exchange(c, Q, "blk.0.attn_output.weight")), set(), {"E001"}, OTHER),
    "key lost": Damage(edited(lambda c: c.metadata.pop("llama.block_count")), {"L002"}, {"E014"}, NO_LOAD),
    "heads miscounted": Damage(
        edited(lambda c: c.metadata.update({"llama.attention.head_count": (5, UINT32, None)})),
        {"L003"},
        {"E014"},
        NO_LOAD,
    ),
    "layers miscounted": Damage(
        edited(lambda c: c.metadata.update({"llama.block_count": (2, UINT32, None)})),
        {"G025", "L004"},
        {"E014"},
        NO_LOAD,
    ),
    "architecture unknown": Damage(
        edited(lambda c: c.metadata.update({"general.architecture": ("lama", STRING, None)})),
        {"L001"},
        {"E014"},
        NO_LOAD,
    ),
    "token lost": Damage(
        edited(lambda c: c.metadata.update({"tokenizer.ggml.tokens": SHORT})), {"L005", "L009"}, {"E014"}, NO_LOAD
    ),
    "file type changed": Damage(
        edited(lambda c: c.metadata.update({"general.file_type": (7, UINT32, None)})), {"G021"}, set(), ODD
    ),
    "tensor zeroed": Damage(edited(lambda c: fill(c, Q, 0)), set(), {"E001"}, OTHER),
    "tensor filled with ones": Damage(edited(lambda c: fill(c, Q, 0xFF)), {"P001"}, {"E001"}, BROKEN),
    "block flipped": Damage(patched(lambda d, at: put(d, at(Q) + 144 * 9 + 20, b"\x00\x01")), set(), {"E010"}, DAMAGED),
    "page zeroed": Damage(patched(lambda d, at: put(d, at(Q), bytes(4096))), set(), {"E010"}, DAMAGED),
    "scale infinite": Damage(patched(lambda d, at: put(d, at(Q) + 144, b"\x00\x7c")), {"P001"}, {"E010"}, BROKEN),
    "norm not a number": Damage(
        patched(lambda d, at: put(d, at("output_norm.weight"), np.float32(np.nan).tobytes())),
        {"P002"},
        {"E010"},
        BROKEN,
    ),
    "norm changed": Damage(
        patched(lambda d, at: put(d, at("output_norm.weight"), np.float32(2).tobytes())), set(), {"E010"}, DAMAGED
    ),
}
