"""A row's perplexity, divergence from the model in F16, and size.

The forward pass is that of `hifi_ref.models` in fast mode: activations are encoded as each format's products want them,
but weights are decoded once. Formats of other systems multiply floats: their activations stay as they are.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

import hifi_ref as hr
from hifi_ref import models, neighbours
from hifi_ref.commands import texts
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.formats.hifi.importance import of_tensor
from hifi_ref.mixtures.hifi import fork_outliers
from hifi_ref.models import fast_mode, measures
from hifi_ref.models.arithmetic import Matrix
from hifi_ref.models.divergence import Compared, compared, figures
from hifi_ref.models.model import Model, open_model
from hifi_ref.models.run import FAMILIES
from reference import release
from tools.roadmaps.rows import BASE, CODE, FLOORS, MIXED, PROSE, Row, configuration, takes_importance

MODEL, HELD_OUT, CONTEXT = "model-F16.gguf", "held-out", 256
# Of both texts, in chunks.
SHARES = {PROSE: 3, CODE: 2}
# One of some hundred positions is told of.
SHOWN = ("median", "99%")


@dataclass(frozen=True)
class Decoded(Model):
    """A model whose matrices are decoded: ``matrices`` have float32[rows, columns] in place of blocks."""

    matrices: dict[str, Matrix] = field(default_factory=dict)

    def matrix(self, name: str, columns: int | None = None) -> Matrix:
        return self.matrices[name] if name in self.matrices else super().matrix(name, columns)


class Sample(NamedTuple):
    """``weights``: float32[rows, columns] of each matrix; ``chunks``: ids; ``base``: what the model itself says of each
    chunk. What is made on the way: ``importance`` by text, of each matrix float32[columns], and encoded ``blocks``."""

    folder: Path
    model: Model
    weights: dict[str, np.ndarray]
    chunks: list[list[int]]
    base: list[np.ndarray]
    importance: dict[str, dict[str, np.ndarray]]
    blocks: dict[Any, np.ndarray]

    @property
    def path(self) -> str:
        return str(self.folder / MODEL)

    def chunks_of(self, text: str) -> list[list[int]]:
        path = str(self.folder / f"{text}.txt")
        return texts.chunks_of(texts.ids_of_text(self.path, path), CONTEXT, None, path)


def sample(folder: Path, most: int | None) -> Sample:
    """The model, and so many chunks of the held-out text, at even distances; all where None."""
    model = open_model(folder / MODEL)
    names = [name for name, (_, tensor) in model.tensors.items() if len(tensor.shape) > 1]
    weights = {name: np.asarray(fast_mode.decoded(model.matrix(name))) for name in names}
    found = Sample(folder, model, weights, [], [], {}, {})
    chunks = found.chunks_of(HELD_OUT)
    many = min(most or len(chunks), len(chunks))
    found = found._replace(chunks=[chunks[i * len(chunks) // many] for i in range(many)])
    as_it_is = _model(found, Row("type", BASE, dict.fromkeys(names, BASE)))
    return found._replace(base=[_logits(found, as_it_is, chunk) for chunk in found.chunks])


def importance(of: Sample, text: str) -> dict[str, np.ndarray]:
    """Of one text, or of both by SHARES, as `hifi_ref.imatrix --mix` takes them."""
    if text not in of.importance:
        cut = {part: of.chunks_of(part) for part in (SHARES if text == MIXED else (text,))}
        unit = min(len(cut[part]) // SHARES[part] for part in cut)
        taken = cut[text] if text in cut else [c for part in cut for c in cut[part][: unit * SHARES[part]]]
        sums = models.imatrix(of.path, taken, "fast")
        of.importance[text] = {name: total[0] / np.float32(n[0]) for name, (total, n) in sums.items()}
    return of.importance[text]


def basis(folder: Path, of: Sample) -> dict[str, Any]:
    """What figures rest on: of the model and text their digests, and how much was read."""
    names = (MODEL, f"{HELD_OUT}.txt", f"{PROSE}.txt", f"{CODE}.txt")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    scored = measures.scored(CONTEXT)
    return {
        "files": digests, "context": CONTEXT, "chunks": len(of.chunks),
        "positions": len(of.chunks) * (scored.stop - scored.start), "weights": sum(x.size for x in of.weights.values()),
        "perplexity": _perplexity(of),
    }  # fmt: skip


def _perplexity(of: Sample) -> list[float]:
    """The model's own, and its uncertainty."""
    where = measures.scored(CONTEXT)
    nll = [
        measures.negative_log_likelihoods(base, np.array(chunk[where.start + 1 : where.stop + 1]), "fast")
        for chunk, base in zip(of.chunks, of.base, strict=True)
    ]
    found = measures.estimate(np.concatenate(nll))
    return _rounded(found.perplexity, found.uncertainty)


@functools.partial(jax.jit, static_argnums=0)
def _product(partner: str, weight: jax.Array, x: jax.Array) -> jax.Array:
    if partner != "F32":
        f = FORMATS[partner]
        blocks = f.encode(x.reshape(len(x), -1, f.block_size), None)
        x = f.decode(blocks.reshape(-1, f.type_size)).astype(np.float32).reshape(x.shape)
    return jax.lax.dot_general(x, weight, (((1,), (1,)), ((), ())), precision=fast_mode.PRECISION)


def product(weight: Matrix, x: jax.Array) -> jax.Array:
    return _product(FORMATS[weight.kind].dot_with or "F32", weight.blocks, x)


ARITHMETIC = fast_mode.ARITHMETIC._replace(decoded=lambda weight: weight.blocks, product=product)


def blocks_of(of: Sample, row: Row, name: str) -> np.ndarray:
    """uint8 of a matrix in a block format, by the release where it has the format."""
    scheme, x = row.schemes[name], of.weights[name]
    weighted = row.importance and takes_importance(scheme)
    given = importance(of, row.importance).get(name) if weighted else None
    key = name, scheme, row.importance if given is not None else "", row.fork
    if key not in of.blocks:
        if given is None and FORMATS[scheme].requires_weights:
            given = np.ones(x.shape[1], np.float32)
        encode = release.encode if scheme in LLAMA_CPP else functools.partial(hr.encode, lane="numpy")
        of.blocks[key] = encode(scheme, x, given, **_context(row, name, given))
    return of.blocks[key]


def _context(row: Row, name: str, importance: np.ndarray | None) -> dict[str, Any]:
    """What the HIFI fork gives its encoders besides, as `hifi_ref.quantize --fork` does."""
    f = FORMATS[row.schemes[name]]
    given: dict[str, Any] = {}
    if row.fork is not None and f.outliers is not None:
        own = None if importance is None else float(of_tensor(importance.reshape(1, -1))[0])
        count = fork_outliers(name, f.name, row.fork, own)
        given |= {} if count is None else {"outliers": count}
    if row.fork is not None and f.by_model_size:
        given["model_params"] = float(np.float32(row.fork.size))
    return given


def _matrix(of: Sample, row: Row, name: str) -> Matrix:
    """Decoded; what it is multiplied with is encoded as its format wants, of another system's not at all."""
    x = of.weights[name]
    if row.family == "floor":
        return Matrix(FLOORS[row.name], jnp.asarray(x), x.shape[1])
    scheme = configuration(row.schemes[name])
    if scheme.format is None:
        given = dict(scheme.parameters)
        left = neighbours.decode(scheme.scheme, neighbours.encode(scheme.scheme, x, **given), x.shape, **given)
    else:
        left = hr.decode(scheme.scheme, blocks_of(of, row, name), lane="numpy").reshape(x.shape)
    kind = "F32" if scheme.format is None else scheme.scheme
    return Matrix(kind, jnp.asarray(left, jnp.float32), x.shape[1])


def _size(of: Sample, row: Row, name: str) -> float:
    """The bits that a matrix takes."""
    scheme = configuration(row.schemes[name])
    return scheme.bits * of.weights[name].size if scheme.format is None else 8.0 * blocks_of(of, row, name).size


def _model(of: Sample, row: Row) -> Decoded:
    return _decoded(of.model, {name: _matrix(of, row, name) for name in of.weights})


def _decoded(m: Model, matrices: dict[str, Matrix]) -> Decoded:
    return Decoded(m.name, m.architecture, m.gguf, m.tensors, arithmetic=ARITHMETIC, matrices=matrices)


def _logits(of: Sample, model: Model, chunk: Sequence[int]) -> np.ndarray:
    """Of the positions that are scored."""
    ids = np.array(texts.fed(chunk, models.bos_of(of.path)), np.int64)
    return np.asarray(FAMILIES[model.architecture].forward(model, ids))[measures.scored(CONTEXT)]


def measured(of: Sample, row: Row) -> dict[str, Any]:
    """What is kept of a row."""
    bits = sum(_size(of, row, name) for name in of.weights)
    changed = [name for name, scheme in row.schemes.items() if scheme != BASE]
    return _kept(of, _model(of, row), (row.family, row.name, row.importance), bits, changed)


def measured_file(of: Sample, family: str, path: Path) -> dict[str, Any]:
    """The same of a file that was made of the model, named as it is; its weights may be meant to be others."""
    m = open_model(path)
    packed = {name: m.matrix(name, x.shape[1]) for name, x in of.weights.items()}
    matrices = {name: each._replace(blocks=fast_mode.decoded(each)) for name, each in packed.items()}
    bits = sum(8.0 * each.blocks.size for each in packed.values())
    return _kept(of, _decoded(m, matrices), (family, path.stem, ""), bits, list(of.weights)) | {"error": None}


def _kept(
    of: Sample, model: Decoded, names: tuple[str, str, str], bits: float, changed: Sequence[str]
) -> dict[str, Any]:
    """Figures by the exact rule, and of each chunk the mean likelihood and divergence, by which two rows are compared.

    ``names``: family, name and importance; ``changed``: matrices, whose share of the weights is told.
    """
    where, found = measures.scored(CONTEXT), []
    for chunk, base in zip(of.chunks, of.base, strict=True):
        targets = np.array(chunk[where.start + 1 : where.stop + 1])
        found.append(compared(base, _logits(of, model, chunk), targets, "exact", "fast"))
    all_of = figures(Compared(*(np.concatenate(parts) for parts in zip(*found, strict=True))))
    weights = sum(x.size for x in of.weights.values())
    family, name, importance = names
    return {
        "family": family, "name": name, "importance": importance, "bits": round(bits / weights, 4),
        "error": _rounded(error(of, model))[0],
        "share": round(sum(of.weights[each].size for each in changed) / weights, 6),
        "perplexity": _rounded(all_of.perplexity.perplexity, all_of.perplexity.uncertainty),
        "change": _rounded(*all_of.change), "divergence": _rounded(*all_of.divergence),
        "quantiles": {name: _rounded(all_of.quantiles[name])[0] for name in SHOWN},
        "same": _rounded(*all_of.same_top),
        "nll": [_rounded(float(c.nll.mean()))[0] for c in found],
        "kld": [_rounded(float(c.divergence.mean()))[0] for c in found],
    }  # fmt: skip


def error(of: Sample, model: Decoded) -> float:
    """The root of the mean square of the weights' errors, relative to the weights' own."""
    square = power = 0.0
    for name, x in of.weights.items():
        wide = x.astype(np.float64)
        square += float(np.square(np.asarray(model.matrices[name].blocks) - wide).sum())
        power += float(np.square(wide).sum())
    return math.sqrt(square / power)


def _rounded(*values: float) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
