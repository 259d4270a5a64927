"""What a tensor's error does to a model's answers: the divergence that one tensor makes, by its error.

Each tensor in turn is encoded in a type that loses much, all others left as they are, and the model reads a text. The
mean divergence of its answers from those of the model itself, by the tensor's error, says how much such an error
counts. For small errors the effects of several tensors add up, so that the sum of effect times error foretells the
divergence of a whole assignment.

Reference: Malinovskii and others, Pushing the Limits of Large Language Model Quantization via the Linearity Theorem
(2024), which measures the same with random noise.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hifi_ref import api
from hifi_ref.commands import kept, terminal, texts
from hifi_ref.formats import FORMATS
from hifi_ref.mixtures.rows import that_fits
from hifi_ref.model_files.gguf_model import Tensor
from hifi_ref.models import bos_of, setting
from hifi_ref.models.arithmetic import Matrix
from hifi_ref.models.divergence import compared
from hifi_ref.models.model import open_model
from hifi_ref.models.run import arithmetic_of, forward
from hifi_ref.quantize import tensor_errors
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.plan import Plan, share_of
from hifi_ref.quantize.source import Source

# The type that a tensor is tried in, or what takes its place where rows are short.
PROBE = "Q3_K"
CONTEXT, CHUNKS, MODE = 256, 4, "fast"
# Weights that are encoded at a time.
PIECE = 1 << 21


def effects(
    source: Source, tensors: Mapping[str, Tensor], importance: Importance | None, text: str, state: str | None
) -> dict[str, float]:
    """Nats of divergence for an error of 1, of each tensor.

    ``state``: a file that keeps errors; what is measured here is kept beside it, with .text behind its name. Raises
    OSError, and InputError for a model that cannot be computed, or too short a text.
    """
    path = source.paths[0]
    bos, chunks = bos_of(path), texts.chunks_of(texts.ids_of_text(path, text), CONTEXT, CHUNKS, text)
    probes = {name: _probe(tensor, importance) for name, tensor in tensors.items()}
    errors = tensor_errors.measured({name: [plan] for name, plan in probes.items()}, source, importance, state)
    ids_of_all = [-1 if bos is None else bos, *itertools.chain(*chunks)]
    digest = kept.digest_of([path], ids_of_all, CONTEXT, f"{setting(MODE)} {_of(probes)}")
    own_state = None if state is None else f"{state}.text"
    found = kept.load(own_state, digest) if own_state else {}
    with terminal.progress(len(tensors) * len(chunks), "chunks", "answers") as advance:
        advance(sum(name in found for name in tensors) * len(chunks))
        left = [name for name in tensors if name not in found]
        fed = [texts.fed(chunk, bos) for chunk in chunks] if left else []
        model = open_model(path, arithmetic=arithmetic_of(MODE))
        of_model = [forward(model, ids) for ids in fed]
        for name in left:
            changed, divergences = replace(model, replaced={name: _encoded(probes[name], source)}), []
            for ids, z in zip(fed, of_model, strict=True):
                divergences.append(_divergence(z, forward(changed, ids), ids))
                advance(1, name)
            found[name] = np.array(np.mean(divergences))
            if own_state:
                kept.save(own_state, digest, found)
    return {name: float(found[name]) / max(errors[name, probes[name].format], 1e-30) for name in tensors}


def _probe(tensor: Tensor, importance: Importance | None) -> Plan:
    kind = that_fits(PROBE, tensor.shape[0])
    return Plan(tensor, kind, {}, share_of(importance, tensor, tensor.name, kind))


def _of(probes: Mapping[str, Plan]) -> str:
    found = hashlib.sha256()
    for name, plan in sorted(probes.items()):
        found.update(f"{name} {plan.format} ".encode())
        found.update(b"" if plan.importance is None else plan.importance.tobytes())
    return found.hexdigest()


def _divergence(z_base: np.ndarray, z: np.ndarray, ids: list[int]) -> float:
    return float(compared(z_base[:-1], z[:-1], np.array(ids[1:]), "exact", MODE).divergence.mean())


def _encoded(plan: Plan, source: Source) -> Matrix:
    """The whole tensor, as the forward pass takes it."""
    weights, tensor = source.find(plan.tensor.name), plan.tensor
    assert weights is not None
    row = tensor.shape[0]
    count = 1 if plan.importance is None else len(plan.importance)
    rows, step, blocks = tensor.elements // row // count, max(1, PIECE // row), []
    for matrix in range(count):
        own = None if plan.importance is None else plan.importance[matrix]
        for first in range(matrix * rows, (matrix + 1) * rows, step):
            x = weights.rows(slice(first, min(first + step, (matrix + 1) * rows)))
            blocks.append(np.asarray(api.encode(plan.format, x, own)))
    weights.forget()
    bytes_a_row = row // FORMATS[plan.format].block_size * FORMATS[plan.format].type_size
    return Matrix(plan.format, np.concatenate(blocks).reshape(*tensor.shape[:0:-1], bytes_a_row), row)
