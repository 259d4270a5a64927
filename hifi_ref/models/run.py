"""A model's logits, and what of its inputs is collected on the way."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.models import exact_mode, gemma, libm, llama
from hifi_ref.models.arithmetic import Arithmetic
from hifi_ref.models.model import Model, ModelError, Observer, nobody, open_model

if TYPE_CHECKING:
    from jaxtyping import Float32

MODES = ("exact", "fast")
FAMILIES = {
    "llama": llama, "qwen2": llama, "qwen3": llama, "qwen3moe": llama, "phi3": llama, "gemma2": gemma, "gemma3": gemma,
}  # fmt: skip
# Of each matrix float32[matrices, columns], sums of squares, and int64[matrices], of how many rows.
Importance = dict[str, tuple[np.ndarray, np.ndarray]]
# Of matrices that are fed fewer rows than this at once nothing is collected.
LEAST_ROWS = 16


def logits(path: str | os.PathLike[str], ids: Any, mode: str = "exact") -> Float32[np.ndarray, "n vocab"]:
    """The logits of each token of one sequence, the first at position 0.

    Args:
        path: a GGUF model; of a split one any shard.
        ids: whole numbers [n], of the model's vocabulary. What the sequence begins with is not added.
        mode: "exact", the bits of llama.cpp v0.5.0, variant x64, flash attention off, K/V cache F32; or "fast", the
            same formulas compiled by JAX, with sums in any order: as near as the release's own CPU variants are.

    Returns:
        float32[n, vocab].

    Raises:
        OSError, GgufError: a file that cannot be read. ModelError: a model or ids that cannot be computed.
        ValueError: an unknown mode.
    """
    return observed(path, ids, nobody, mode)


def setting(mode: str) -> str:
    """What the results of a mode rest on, in words. Raises ValueError for an unknown mode."""
    if mode == "exact":
        return f"x64, flash attention off, K/V cache F32; {libm.version()}"
    arithmetic_of(mode)
    import jax

    return f"in fast mode, sums in any order; jax {jax.__version__} on {jax.default_backend()}"


def imatrix(
    path: str | os.PathLike[str], sequences: Iterable[Any], mode: str = "exact", onto: Importance | None = None
) -> Importance:
    """What llama-imatrix collects while it reads the sequences, each from position 0 and in a batch of its own.

    ``onto``: what was collected before, which is added to.

    Returns:
        matrix's name -> (float32[matrices, columns]: sums of squared inputs, added row after row;
        int64[matrices]: how many rows). An expert's own inputs count for it alone.
    """
    sums = {name: pair[0].copy() for name, pair in (onto or {}).items()}
    counts = {name: pair[1].copy() for name, pair in (onto or {}).items()}

    def collect(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
        if chosen is None and (not name.startswith("blk.") or len(x) < LEAST_ROWS):
            return
        of_name = 1 if chosen is None else _matrices(model, name)
        total = sums.setdefault(name, np.zeros((of_name, x.shape[-1]), np.float32))
        rows = counts.setdefault(name, np.zeros(of_name, np.int64))
        squares = x * x
        if chosen is None:
            total[0] = np.add.accumulate(np.concatenate([total, squares]))[-1]
            rows[0] += len(x)
            return
        for slot in range(chosen.shape[1]):
            for token, expert in enumerate(chosen[:, slot]):
                total[expert] += squares[token, slot % squares.shape[1]]
                rows[expert] += 1

    model = open_model(path)
    for ids in sequences:
        observed(path, ids, collect, mode)
    for name, total in sums.items():
        if not np.isfinite(total).all():
            raise ModelError(f"{model.name}: the importance of {name} is not finite")
    return {name: (sums[name], counts[name]) for name in sorted(sums)}


def _matrices(model: Model, name: str) -> int:
    return model.tensors[name][1].shape[2]


def family_of(model: Model) -> ModuleType:
    """The page of its architecture. Raises ModelError for one that is not known."""
    if model.architecture not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(f"{model.name}: the architecture {model.architecture} is none of those known: {known}")
    return FAMILIES[model.architecture]


def arithmetic_of(mode: str) -> Arithmetic:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if mode == "exact":
        return exact_mode.ARITHMETIC
    from hifi_ref.models import fast_mode

    return fast_mode.ARITHMETIC


def observed(
    path: str | os.PathLike[str], ids: Any, observe: Observer, mode: str = "exact"
) -> Float32[np.ndarray, "n vocab"]:
    """As logits, while the input of each product with a matrix is shown to ``observe``."""
    return forward(open_model(path, observe, arithmetic_of(mode)), ids)


def forward(model: Model, ids: Any) -> Float32[np.ndarray, "n vocab"]:
    """The logits of an open model, by its own arithmetic. Raises ModelError as ``logits`` does."""
    family = family_of(model)
    ids = np.asarray(ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ModelError(f"ids must be whole numbers [n], at least one, not {ids.dtype}{list(ids.shape)}")
    with np.errstate(all="ignore"):
        # What is not finite is found where it is multiplied, and in the end.
        out = np.asarray(family.forward(model, ids.astype(np.int64)))
    if not np.isfinite(out).all():
        raise ModelError(f"{model.name}: the logits are not finite")
    model.check_all_used()
    return out
