"""Sound models of every file type and many statistics, in which check must find no damage.

`python -m tests.check.sound_fleet [EVERY [sourced]]` makes and checks all of them, or each EVERYth, and sums up; it
exits with 1 where one of the codes of docs/damage.md is found, or, with their sources, where one is not reproduced. The
release's own quantizer writes the files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np

from hifi_ref.check.command import FILE_TYPES, check_file
from reference import fetch
from tests import sources
from tests.hostile import run_check
from tools import make_sample

WIDTH, ROWS = make_sample.WIDTH, 512
CODES = {f"P{n:03}" for n in range(8, 17)}
# The quantizer does not offer NVFP4.
TYPES = sorted(set(FILE_TYPES) - {39})
# What gguf writes itself, for files whose tensors begin with pages: of these the release's quantizer loses its place.
PAGED = {0: "F32", 1: "F16", 32: "BF16", 2: "Q4_0", 7: "Q8_0"}
# These need importance, which is not at hand for the statistics with other tensors or layers.
NEED_IMPORTANCE = (19, 20, 21, 22, 23, 24, 28, 29, 31)
Tensors = dict[str, np.ndarray]
Rng = np.random.Generator


def base(rng: Rng, layers: int = 2, width: int = WIDTH, rows: int = ROWS) -> Tensors:
    """A model of gaussian weights, and norms that vary."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, width), "output.weight": (rows, width)}
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            n = rows // 2 if name in ("attn_k", "attn_v") else rows
            shapes[f"blk.{layer}.{name}.weight"] = (n, width)
    tensors = {name: (0.02 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    norms = [f"blk.{layer}.{name}.weight" for layer in range(layers) for name in ("attn_norm", "ffn_norm")]
    for name in ["output_norm.weight", *norms]:
        tensors[name] = np.exp(0.5 * rng.standard_normal(width)).astype(np.float32)
    return tensors


def each(change: Callable[[np.ndarray, Rng], np.ndarray], *args: int) -> Callable[[Rng], Tensors]:
    """The model with every matrix changed."""

    def make(rng: Rng) -> Tensors:
        tensors = base(rng, *args)
        return {name: change(x, rng).astype(np.float32) if x.ndim > 1 else x for name, x in tensors.items()}

    return make


def with_tensors(change: Callable[[Tensors, Rng], None], *args: int) -> Callable[[Rng], Tensors]:
    """The model after ``change`` has set or removed some of its tensors."""

    def make(rng: Rng) -> Tensors:
        tensors = base(rng, *args)
        change(tensors, rng)
        return {name: np.asarray(x, np.float32) for name, x in tensors.items()}

    return make


def _tiles(x: np.ndarray, rng: Rng) -> np.ndarray:
    keep = rng.random((x.shape[0] // 32, x.shape[1] // 32)) < 0.3
    return x * np.kron(keep, np.ones((32, 32)))


def _channels(x: np.ndarray, rng: Rng) -> np.ndarray:
    """A few columns and one single weight that are far larger, as in language models."""
    x = x.copy()
    x[:, rng.choice(x.shape[1], 3, False)] *= 60
    x[rng.integers(x.shape[0]), rng.integers(x.shape[1])] = 8
    return x


def _padded(tensors: Tensors, rng: Rng) -> None:
    for name in ("token_embd.weight", "output.weight"):
        tensors[name][-150:] = 0


def _same_rows(tensors: Tensors, rng: Rng) -> None:
    for name in ("token_embd.weight", "output.weight"):
        tensors[name][-150:] = tensors[name].mean(axis=0)


def _untrained(tensors: Tensors, rng: Rng) -> None:
    tensors["token_embd.weight"][rng.random(ROWS) < 0.6] *= 1e-5


def _tied(tensors: Tensors, rng: Rng) -> None:
    del tensors["output.weight"]


def _tied_twice(tensors: Tensors, rng: Rng) -> None:
    tensors["output.weight"] = tensors["token_embd.weight"]


def _ones(tensors: Tensors, rng: Rng) -> None:
    for name, x in tensors.items():
        if x.ndim == 1:
            tensors[name] = np.ones_like(x)


def _biases(tensors: Tensors, rng: Rng) -> None:
    for layer in range(2):
        tensors[f"blk.{layer}.attn_qkv.bias"] = np.r_[rng.standard_normal(2048), np.zeros(2048), np.ones(2048)]
        tensors[f"blk.{layer}.attn_q.bias"] = np.zeros(ROWS)
        tensors[f"blk.{layer}.attn_norm.bias"] = np.zeros(WIDTH)
    tensors["output.bias"] = np.r_[np.zeros(ROWS - 9), np.full(9, -1e30)]
    tensors["rope_freqs.weight"] = np.r_[np.ones(32), np.full(32, 1e30)]


def _zero_branches(tensors: Tensors, rng: Rng) -> None:
    """A layer that was added to a trained model begins with zeros where its branches end."""
    tensors["blk.1.attn_output.weight"][:] = tensors["blk.1.ffn_down.weight"][:] = 0
    tensors["blk.1.post_ffw_norm.weight"] = np.zeros(WIDTH)


def _experts(tensors: Tensors, rng: Rng) -> None:
    """One layer with two experts that are never trained, another with experts that begin as copies."""
    for layer in range(2):
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            del tensors[f"blk.{layer}.{name}.weight"]
            x = 0.02 * rng.standard_normal((8, 128, WIDTH))
            if layer:
                x[1:] = x[0]
            else:
                x[[2, 7]] = 0
            tensors[f"blk.{layer}.{name}_exps.weight"] = x
        tensors[f"blk.{layer}.ffn_gate_inp.weight"] = rng.standard_normal((8, WIDTH))


def _repeated_layers(tensors: Tensors, rng: Rng) -> None:
    for name in [name for name in tensors if name.startswith("blk.0.")]:
        tensors[name.replace("blk.0.", "blk.2.")] = tensors[name].copy()


def _repeated_and_tuned(tensors: Tensors, rng: Rng) -> None:
    """A layer that was repeated, and then merged with adapters of its own in all but one matrix."""
    _repeated_layers(tensors, rng)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"):
        x = tensors[f"blk.2.{name}.weight"]
        x += 0.01 * rng.standard_normal((len(x), 8)) @ rng.standard_normal((8, WIDTH))


def _shared_values(tensors: Tensors, rng: Rng) -> None:
    for layer in range(2):
        tensors[f"blk.{layer}.attn_v.weight"] = tensors[f"blk.{layer}.attn_k.weight"]


STATISTICS: dict[str, Callable[[Rng], Tensors]] = {
    "gaussian": base,
    "heavy tails": each(lambda x, rng: 0.02 * rng.standard_t(2, x.shape)),
    "growing rows": each(lambda x, rng: x * np.geomspace(1, 100, len(x))[:, None]),
    "outlier channels": each(_channels),
    "ternary": each(lambda x, rng: 0.03 * rng.integers(-1, 2, x.shape)),
    "ternary, few": each(lambda x, rng: 0.03 * rng.choice([-1, 0, 0, 0, 0, 0, 1], x.shape)),
    "half pruned": each(lambda x, rng: x * (rng.random(x.shape) < 0.5)),
    "pruned to 5%": each(lambda x, rng: x * (rng.random(x.shape) < 0.05)),
    "rows pruned": each(lambda x, rng: x * (rng.random((len(x), 1)) < 0.4)),
    "columns pruned": each(lambda x, rng: x * (np.arange(x.shape[1]) < 180)),
    "rows and weights pruned": each(
        lambda x, rng: x * (rng.random(x.shape) < 0.1) * np.repeat(rng.random(len(x) // 64) < 0.5, 64)[:, None]
    ),
    "tiles pruned": each(_tiles),
    "constant": each(lambda x, rng: np.full_like(x, 6 / 256)),
    "rounded to BF16": each(lambda x, rng: (x.view(np.uint32) & 0xFFFF0000).view(np.float32)),
    "small": each(lambda x, rng: x * 0.02),
    "large": each(lambda x, rng: x * 1e3),
    "positive": each(lambda x, rng: np.abs(x)),
    "padded vocabulary": with_tensors(_padded),
    "same rows": with_tensors(_same_rows),
    "untrained rows": with_tensors(_untrained),
    "tied": with_tensors(_tied),
    "tied, twice": with_tensors(_tied_twice),
    "norms of ones": with_tensors(_ones),
    "biases": with_tensors(_biases),
    "zero branches": with_tensors(_zero_branches),
    "shared values": with_tensors(_shared_values),
    "experts": with_tensors(_experts),
    "repeated layers": with_tensors(_repeated_layers),
    "repeated and tuned": with_tensors(_repeated_and_tuned),
    "wide, rows pruned": each(lambda x, rng: x * (rng.random((len(x), 1)) < 0.7), 2, 2048, 128),
    "wide, columns pruned": each(lambda x, rng: x * (np.arange(x.shape[1]) < 1024), 2, 2048, 128),
}
# For these no importance is at hand.
OTHER_TENSORS = ("experts", "repeated layers", "repeated and tuned", "wide, rows pruned", "wide, columns pruned")


def fleet() -> list[tuple[str, int, int]]:
    """Statistic, file type and alignment of every file; wide ones also aligned with pages."""
    return [
        (statistic, file_type, alignment)
        for statistic in STATISTICS
        for file_type in TYPES
        for alignment in ((32, 4096) if statistic.startswith("wide") and file_type in PAGED else (32,))
        if statistic not in OTHER_TENSORS or file_type not in NEED_IMPORTANCE
    ]


def write(path: Path, tensors: Tensors, alignment: int = 32, file_type: int = 0) -> None:
    """Write a model with the metadata that the quantizer asks for, its matrices in a type of PAGED."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk."))
    width = tensors["token_embd.weight"].shape[1]
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ROWS)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(ROWS)
    writer.add_file_type(file_type)
    if any("exps" in name for name in tensors):
        writer.add_expert_count(8)
        writer.add_expert_used_count(2)
    for name, tensor in tensors.items():
        kind = gguf.GGMLQuantizationType[PAGED[file_type] if tensor.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(folder: Path, statistic: str, file_type: int, alignment: int) -> Path:
    """Write one file of the fleet; its model in F32 is kept beside it for the next file type."""
    source, path = folder / f"{statistic}.gguf", folder / "made.gguf"
    path.unlink(missing_ok=True)
    if alignment != 32 or not source.exists():
        tensors = STATISTICS[statistic](np.random.default_rng(len(statistic)))
        write(source if alignment == 32 else path, tensors, alignment, 0 if alignment == 32 else file_type)
    if alignment != 32:
        return path
    weighted = statistic not in OTHER_TENSORS
    status = make_sample.quantize(fetch.library_dir(), source, path, file_type, threads=2, weighted=weighted)
    assert status == 0, (statistic, file_type, status)
    return path


def reproduced(folder: Path, statistic: str, file_type: int, alignment: int) -> list[str]:
    """What check finds of the source that it should not: codes and sentences, and the verdict where it is another."""
    path = make(folder, statistic, file_type, alignment)
    source = folder / f"{statistic}.gguf" if alignment == 32 else path
    words = [str(path), f"--source={source}", "--ignore=L", "--json"]
    if alignment == 32 and statistic not in OTHER_TENSORS and file_type not in (0, 1, 32):
        if not (folder / "imatrix.gguf").exists():
            sources.write_imatrix(folder / "imatrix.gguf", make_sample.importance())
        words.append(f"--imatrix={folder / 'imatrix.gguf'}")
    report = json.loads(run_check(*words)[1])
    wrong = [f"{f['code']} {f['message']}" for f in report["findings"] if f["code"][0] == "E"]
    return wrong if report["verdict"]["kind"] == "reproduced" else [*wrong, report["verdict"]["kind"]]


def findings(folder: Path, members: list[tuple[str, int, int]]) -> Iterator[tuple[tuple[str, int, int], list[str]]]:
    """What check finds in each file, code and sentence."""
    for member in members:
        report = check_file(make(folder, *member))
        yield member, [f"{finding.code} {finding.message}" for finding in report.findings.kept]


def main() -> int:
    every, sourced = int(sys.argv[1]) if len(sys.argv) > 1 else 1, sys.argv[2:] == ["sourced"]
    members, start = fleet()[::every], time.perf_counter()
    wrong, codes = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for (statistic, file_type, alignment), found in findings(Path(scratch), members):
            codes.update({line[:4] for line in found})
            if sourced:
                found += (others := reproduced(Path(scratch), statistic, file_type, alignment))
            if any(line[:4] in CODES for line in found) or sourced and others:
                wrong += 1
                print(f"{statistic}, {FILE_TYPES[file_type][0]}, alignment {alignment}", *found[:5], sep="\n  ")
    what = "with findings of damage, or not reproduced" if sourced else "with findings of damage"
    print(f"{wrong} of {len(members)} sound files {what}; {time.perf_counter() - start:.0f} s")
    print(f"files by finding of any code: {dict(sorted(codes.items()))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
