"""Quantize a GGUF of floats: `python -m hifi_ref.quantize (--hifi | --type=NAME | --fork=NAME) SOURCE.gguf OUT.gguf`.

Every block is what hifi_ref.encode gives, so `check OUT.gguf --source=SOURCE.gguf` reproduces it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from hifi_ref import policies
from hifi_ref.formats import FORMATS
from hifi_ref.formats.hifi import importance as importance_of
from hifi_ref.model_files import context, gguf_write
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Gguf, Tensor, open_gguf
from hifi_ref.model_files.imatrix import Imatrix, read_imatrix
from hifi_ref.model_files.source import Weights, open_source
from hifi_ref.rows_encoder import choose_lanes, encode_rows

DONE, USAGE, FAULT = 0, 2, 3
# Weights that are encoded in one go.
PIECE = 1 << 21
FLOATS = ("F32", "F16", "BF16")
HIFI_DIALECT = "hifi-lite"
QUANTIZATION_VERSION = 2
USAGE_TEXT = f"""\
usage: python -m hifi_ref.quantize (--hifi | --type=NAME | --fork=NAME) [flags] SOURCE.gguf OUT.gguf

Writes OUT.gguf with the weight matrices of SOURCE.gguf, whose tensors are F32, F16 or BF16, quantized.

flags:
  --hifi            a mix of HIFI formats that fits the model's size
  --type=NAME       one format for all matrices, such as Q4_K or Q4_K_HIFI, or a mix: {" ".join(policies.ROADMAP)}
  --fork=NAME       as the HIFI fork does for a file type: {" ".join(policies.FORK_FILE_TYPES)}
  --imatrix=FILE    an importance matrix, GGUF or .dat
  --quiet           do not tell what became of each tensor
  --help            print this text

exit codes: 0 written, 2 wrong usage or a file that cannot be used, 3 a fault of this program
"""
FLAGS = flags.FlagValues()
flags.DEFINE_bool("hifi", False, "", flag_values=FLAGS)
flags.DEFINE_string("type", None, "", flag_values=FLAGS)
flags.DEFINE_string("fork", None, "", flag_values=FLAGS)
flags.DEFINE_string("imatrix", None, "", flag_values=FLAGS)
flags.DEFINE_bool("quiet", False, "", flag_values=FLAGS)
flags.DEFINE_bool("help", False, "", flag_values=FLAGS)


class Plan(NamedTuple):
    """What becomes of one tensor: its format, what its encoder is told, and its rows of importance, one a matrix."""

    tensor: Tensor
    format: str
    told: dict[str, Any]
    importance: np.ndarray | None


def quantize(
    source: str, out: str, choice: Callable[[Gguf], tuple[str, Callable[[Tensor], str], dict[str, Any]]],
    imatrix: Imatrix | None = None, imatrix_name: str | None = None, progress: Callable[[int], object] = lambda n: None,
) -> list[Plan]:  # fmt: skip
    """Quantize a file. Raises OSError, or InputError in one sentence; then nothing is written.

    choice(source) gives the choice's name, the format of each matrix, and metadata to be written. ``progress`` is told
    the weights as they are done.
    """
    gguf = open_gguf(source)
    if not gguf.tensors:
        raise InputError(f"{source} has no tensors")
    weights = open_source(source, gguf)
    name, format_of, metadata = choice(gguf)
    plans = [_plan(gguf, tensor, format_of, metadata, imatrix) for tensor in gguf.tensors]
    counts = {plan.tensor.name: plan.told["outliers"] for plan in plans if "outliers" in plan.told}
    used = {FORMATS[plan.format].dialect for plan in plans if plan.format in FORMATS}
    foreign = name.startswith("fork ") or "hifi" in used
    known = {told.name: type_id for type_id, told in DIALECTS[HIFI_DIALECT if foreign else REFERENCE].ids.items()}
    for plan in plans:
        if plan.format not in known:
            raise InputError(f"{plan.format} has no number in GGUF, so no file can hold it")
    entries = [
        gguf_write.Entry(p.tensor.name, p.tensor.shape, known[p.format], _nbytes(p.tensor, p.format)) for p in plans
    ]
    changes: dict[str, int | float | str | None] = {
        "general.file_type": _file_type(name), "general.quantization_version": QUANTIZATION_VERSION,
        "quantize.imatrix.file": imatrix_name, context.DIALECT: HIFI_DIALECT if foreign else None,
        context.MODEL_PARAMS: metadata.get("model_params") if any("model_params" in p.told for p in plans) else None,
        context.OUTLIERS: json.dumps(counts) if counts else None,
    }  # fmt: skip
    _write(Path(out), gguf, changes, entries, _data(gguf, plans, weights.find, progress))
    return plans


def one_format(name: str) -> Callable[[Gguf], tuple[str, Callable[[Tensor], str], dict[str, Any]]]:
    """The choice of one format for all matrices."""
    return lambda gguf: (name, lambda tensor: name, {"model_params": size_of(gguf)})


def a_mix(name: str | None) -> Callable[[Gguf], tuple[str, Callable[[Tensor], str], dict[str, Any]]]:
    """The choice of a roadmap's mix; None for the one that fits the model's size."""

    def choice(gguf: Gguf) -> tuple[str, Callable[[Tensor], str], dict[str, Any]]:
        size = size_of(gguf)
        mix = name or policies.automatic_mix(size)
        return f"mix {mix}", lambda tensor: policies.roadmap_format(mix, tensor.name), {"model_params": size}

    return choice


def as_the_fork(name: str) -> Callable[[Gguf], tuple[str, Callable[[Tensor], str], dict[str, Any]]]:
    """The choice that the HIFI fork makes for one of its file types, and the counts of outliers that it asks for."""

    def choice(gguf: Gguf) -> tuple[str, Callable[[Tensor], str], dict[str, Any]]:
        model = _model(gguf)
        metadata = {"model_params": float(np.float32(model.size)), "model": model}
        return f"fork {name}", lambda tensor: policies.fork_format(name, tensor.name, model), metadata

    return choice


def size_of(gguf: Gguf) -> float:
    """Billions of weights, as binary32 holds it."""
    return float(np.float32(sum(tensor.elements for tensor in gguf.tensors) / 1e9))


def _model(gguf: Gguf) -> policies.Model:
    arch = gguf.text("general.architecture")

    def number(key: str) -> int:
        value = gguf.metadata.get(f"{arch}.{key}")
        if value is None or value.count is not None or not isinstance(value.scalar, int):
            raise InputError(f"the source's metadata has no number {arch}.{key}, which the fork's rules need")
        return value.scalar

    layers = number("block_count")
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    embedding = next((t for t in gguf.tensors if t.name == "token_embd.weight"), None)
    vocabulary = tokens.count if tokens and tokens.count else embedding.shape[-1] if embedding else 0
    experts = gguf.metadata.get(f"{arch}.expert_count")
    size = policies.size_of(number("embedding_length"), layers, number("feed_forward_length"), vocabulary)
    tied = not any(t.name == "output.weight" for t in gguf.tensors)
    return policies.Model(size, layers, experts.scalar if experts else 0, layers == 80 and arch == "llama", tied)


def _plan(gguf: Gguf, tensor: Tensor, format_of: Callable, metadata: dict[str, Any], imatrix: Imatrix | None) -> Plan:
    if tensor.type_name not in FLOATS or not policies.is_quantized(tensor.name, tensor.shape):
        if policies.is_quantized(tensor.name, tensor.shape):
            raise InputError(f"tensor {tensor.name} is {tensor.type_name}: quantize from F32, F16 or BF16")
        return Plan(tensor, tensor.type_name, {}, None)
    name = policies.that_fits(format_of(tensor), tensor.shape[0])
    f = FORMATS[name]
    row = None if imatrix is None else imatrix.rows.get(tensor.name)
    if row is not None and row.size != tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1):
        raise InputError(f"the importance of {tensor.name} has {row.size} values for a shape of {list(tensor.shape)}")
    if f.block_size == 1:
        row = None
    if f.requires_weights and row is None:
        raise InputError(f"{name} cannot be encoded without importance, and there is none for {tensor.name}")
    told: dict[str, Any] = {}
    if "model" in metadata and f.outliers is not None:
        own = None if row is None else float(importance_of.of_tensor(row))
        count = policies.fork_outliers(tensor.name, name, metadata["model"], own)
        told |= {} if count is None else {"outliers": count}
    if f.by_model_size:
        told["model_params"] = metadata["model_params"]
    return Plan(tensor, name, told, None if row is None else row.reshape(-1, tensor.shape[0]))


def _nbytes(tensor: Tensor, name: str) -> int:
    if name == tensor.type_name:
        return tensor.nbytes
    f = FORMATS[name]
    return tensor.elements // f.block_size * f.type_size


def _file_type(name: str) -> int | None:
    """general.file_type of one llama.cpp format, or of the fork; None for what has no number."""
    if name.startswith("fork "):
        return policies.FORK_FILE_TYPES[name.removeprefix("fork ")]
    return next((n for n, (told, _) in FILE_TYPES.items() if told in (name, f"{name}_S")), None)


def _data(
    gguf: Gguf, plans: list[Plan], find: Callable[[str], Weights | None], progress: Callable[[int], object]
) -> Iterator[bytes]:
    work = [(p.format, p.importance is not None, p.tensor.elements) for p in plans if p.format != p.tensor.type_name]
    lanes, _ = choose_lanes(work)
    for plan in plans:
        tensor = plan.tensor
        if plan.format == tensor.type_name:
            yield from (bytes(gguf.data[i : min(i + PIECE, tensor.start + tensor.nbytes)])
                        for i in range(tensor.start, tensor.start + tensor.nbytes, PIECE))  # fmt: skip
            continue
        weights = find(tensor.name)
        row = tensor.shape[0]
        matrices = 1 if plan.importance is None else len(plan.importance)
        rows = tensor.elements // row // matrices
        step = max(1, PIECE // row)
        for matrix in range(matrices):
            own = None if plan.importance is None else plan.importance[matrix]
            for first in range(matrix * rows, (matrix + 1) * rows, step):
                x = weights.rows(slice(first, min(first + step, (matrix + 1) * rows)))
                if not np.isfinite(x).all():
                    bad = first * row + int(np.argmin(np.isfinite(x)))
                    raise InputError(f"weight {bad} of tensor {tensor.name} is not finite: it cannot be quantized")
                blocks = encode_rows(plan.format, x, own, (plan.format, own is not None) in lanes, **plan.told)
                progress(x.size)
                yield blocks.tobytes()


def _write(out: Path, like: Gguf, changes: dict, entries: list, data: Iterator[bytes]) -> None:
    """The whole file or none: a temporary file beside it takes its place."""
    with tempfile.NamedTemporaryFile("wb", dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
        try:
            gguf_write.write(file, like, changes, entries, data)
            file.close()
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(file.name, 0o666 & ~mask)
            os.replace(file.name, out)
        except BaseException:
            os.unlink(file.name)
            raise


# THE COMMAND


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; sys.argv's arguments where argv is None. Returns the exit code."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except (flags.Error, InputError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"hifi_ref.quantize: {told.splitlines()[0]}", file=sys.stderr)
        return USAGE
    except Exception:
        traceback.print_exc()
        print("hifi_ref.quantize: a fault of this program; nothing was written", file=sys.stderr)
        return FAULT


def _run(argv: Sequence[str]) -> int:
    FLAGS.unparse_flags()
    for name in FLAGS:
        FLAGS[name].unparse()
    paths = FLAGS(["quantize", *argv])[1:]
    if FLAGS.help:
        print(USAGE_TEXT, end="")
        return DONE
    if bool(FLAGS.hifi) + bool(FLAGS.type) + bool(FLAGS.fork) != 1:
        raise InputError("one of --hifi, --type and --fork is needed (--help tells the usage)")
    if len(paths) != 2:
        raise InputError(f"a source and a target are needed, but {len(paths)} paths are given")
    if os.path.exists(paths[1]) and os.path.samefile(*paths):
        raise InputError(f"{paths[1]} is the source itself")
    imatrix = read_imatrix(FLAGS.imatrix) if FLAGS.imatrix else None
    with _bar(paths[0]) as bar:
        plans = quantize(*paths, _choice(), imatrix, FLAGS.imatrix and os.path.basename(FLAGS.imatrix), bar.update)
    if not FLAGS.quiet:
        for plan in plans:
            told = "".join(f", {key} {value:g}" for key, value in plan.told.items())
            print(f"{plan.tensor.name}: {plan.tensor.type_name} -> {plan.format}{told}")
        print(f"wrote {paths[1]}: {os.path.getsize(paths[1])} bytes")
    return DONE


def _choice() -> Callable:
    if FLAGS.fork:
        if FLAGS.fork not in policies.FORK_FILE_TYPES:
            known = " ".join(policies.FORK_FILE_TYPES)
            raise InputError(f"the fork has no file type {FLAGS.fork!r}; there are {known}")
        return as_the_fork(FLAGS.fork)
    if FLAGS.hifi:
        return a_mix(None)
    if FLAGS.type in FORMATS and FORMATS[FLAGS.type].encode is not None and FLAGS.type not in ("Q8_1", "Q8_K"):
        return one_format(FLAGS.type)
    if FLAGS.type in policies.ROADMAP:
        return a_mix(FLAGS.type)
    raise InputError(f"no format is called {FLAGS.type!r}, and no mix; there are {' '.join(FORMATS)}")


def _bar(path: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=sum(t.elements for t in open_gguf(path).tensors), unit="w", unit_scale=True, leave=False,
                disable=not sys.stderr.isatty())  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
