"""Train the sample model, a llama of 1.9 million weights that really predicts, and write it as GGUF in F16.

    python -m tools.train_model [--steps=N] [--out=FOLDER]

It needs `pip install '.[model]'` and the packages that `training_text.VERSIONS` names. Seeded: the same machine writes
the same bytes, as far as XLA's CPU back end does. What is done is kept each hundred steps, and the same command goes on
from there. docs/sample-model.md has what it reached.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tools.sample_text import write_texts
from tools.training_text import Text, gather
from tools.write_model import END, SHAPE, tokenizer_of, write_gguf

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "model"
SEED, BATCH, CONTEXT, STEPS, WARM_UP = 18, 4, 256, 3000, 100
RATE, LAST_RATE, FALLING, DECAY, BETAS, CLIP = 2e-3, 5e-5, 0.4, 0.1, (0.9, 0.99), 1.0
Weights = dict[str, jax.Array]


def first_weights() -> Weights:
    """Normal numbers of spread 0.02, narrower where a part adds to the stream; norms of ones."""
    rng = np.random.default_rng(SEED)
    narrow = 0.02 / np.sqrt(2 * SHAPE.layers)

    def made(name: str, shape: tuple[int, ...]) -> jax.Array:
        if len(shape) == 1:
            return jnp.ones(shape, jnp.float32)
        spread = narrow if name.endswith(("attn_output.weight", "ffn_down.weight")) else 0.02
        return jnp.asarray(rng.normal(0, spread, shape), jnp.float32)

    return {name: made(name, shape) for name, shape in SHAPE.tensors().items()}


def rms_norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + SHAPE.epsilon) * weight


def rotated(x: jax.Array) -> jax.Array:
    """RoPE over f32[batch, n, heads, width]: pairs are neighbours, as llama has them in GGUF."""
    n, width = x.shape[1], x.shape[-1]
    angles = np.arange(n)[:, None] * SHAPE.rope_base ** (-np.arange(0, width, 2) / width)
    cos, sin = (jnp.asarray(f(angles), jnp.float32)[None, :, None] for f in (np.cos, np.sin))
    even, odd = x[..., ::2], x[..., 1::2]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def attention(w: Weights, layer: str, x: jax.Array) -> jax.Array:
    batch, n, _ = x.shape

    def heads(part: str, many: int) -> jax.Array:
        return (x @ w[f"{layer}attn_{part}.weight"].T).reshape(batch, n, many, SHAPE.head)

    q, k, v = rotated(heads("q", SHAPE.heads)), rotated(heads("k", SHAPE.kv_heads)), heads("v", SHAPE.kv_heads)
    q = q.reshape(batch, n, SHAPE.kv_heads, -1, SHAPE.head)
    scores = jnp.einsum("bnkgd,bmkd->bkgnm", q, k) / np.sqrt(SHAPE.head)
    scores = jnp.where(jnp.tril(jnp.ones((n, n), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("bkgnm,bmkd->bnkgd", jax.nn.softmax(scores, axis=-1), v).reshape(batch, n, -1)
    return mixed @ w[f"{layer}attn_output.weight"].T


def logits(w: Weights, ids: jax.Array) -> jax.Array:
    """f32[batch, n, vocabulary] of i32[batch, n]."""
    x = w["token_embd.weight"][ids]
    for i in range(SHAPE.layers):
        layer = f"blk.{i}."
        x = x + attention(w, layer, rms_norm(x, w[f"{layer}attn_norm.weight"]))
        y = rms_norm(x, w[f"{layer}ffn_norm.weight"])
        gate, up = (y @ w[f"{layer}ffn_{part}.weight"].T for part in ("gate", "up"))
        x = x + (jax.nn.silu(gate) * up) @ w[f"{layer}ffn_down.weight"].T
    return rms_norm(x, w["output_norm.weight"]) @ w["token_embd.weight"].T


def loss(w: Weights, windows: jax.Array) -> jax.Array:
    """The mean negative log-likelihood, in nats, of all ids of i32[batch, n + 1] but the first."""
    chances = jax.nn.log_softmax(logits(w, windows[:, :-1]))
    return -jnp.take_along_axis(chances, windows[:, 1:, None], axis=-1).mean()


@partial(jax.jit, donate_argnums=(0, 1, 2))
def step(w: Weights, first: Weights, second: Weights, windows: jax.Array, number: jax.Array, rate: jax.Array):
    """One step of AdamW: weights, moments, and the loss before it."""
    now, slopes = jax.value_and_grad(loss)(w, windows)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in slopes.values()))
    slopes = {name: g * jnp.minimum(1.0, CLIP / size) for name, g in slopes.items()}
    first = {name: BETAS[0] * m + (1 - BETAS[0]) * slopes[name] for name, m in first.items()}
    second = {name: BETAS[1] * v + (1 - BETAS[1]) * slopes[name] ** 2 for name, v in second.items()}

    def moved(name: str, x: jax.Array) -> jax.Array:
        mean, square = first[name] / (1 - BETAS[0] ** number), second[name] / (1 - BETAS[1] ** number)
        return x - rate * (mean / (jnp.sqrt(square) + 1e-8) + (DECAY * x if x.ndim > 1 else 0))

    return {name: moved(name, x) for name, x in w.items()}, first, second, now


def windows(ids: np.ndarray, steps: int) -> Iterator[np.ndarray]:
    """i32[BATCH, CONTEXT + 1] a step: every window of an epoch once, in a drawn order, each epoch cut elsewhere."""
    rng = np.random.default_rng(SEED + 1)
    waiting = np.empty(0, np.int64)
    for _ in range(steps):
        if len(waiting) < BATCH:
            start = rng.integers(CONTEXT)
            waiting = rng.permutation(np.arange(start, len(ids) - CONTEXT - 1, CONTEXT))
        now, waiting = waiting[:BATCH], waiting[BATCH:]
        yield np.stack([ids[at : at + CONTEXT + 1] for at in now]).astype(np.int32)


def rate_at(number: int, steps: int) -> float:
    """Linear over WARM_UP steps, then RATE, and half a cosine down to LAST_RATE over the last FALLING of all."""
    share = max(0.0, (number / steps - 1) / FALLING + 1)
    return min(1.0, number / WARM_UP) * (LAST_RATE + (RATE - LAST_RATE) * (1 + float(np.cos(np.pi * share))) / 2)


def trained(ids: np.ndarray, steps: int, kept: Path) -> Weights:
    """The weights after so many steps over i32[n]; says each hundredth's loss, and goes on from ``kept``."""
    done, state = begun(steps, kept)
    losses, began = [], time.monotonic()
    for number, batch in enumerate(windows(ids, steps), 1):
        if number <= done:
            continue
        at = np.float32(number), np.float32(rate_at(number, steps))
        *parts, now = step(*state.values(), jnp.asarray(batch), *at)
        state = dict(zip(state, parts, strict=True))
        losses.append(now)
        if number % 100 == 0:
            mean, spent = float(np.mean(losses[-100:])), time.monotonic() - began
            print(f"step {number} of {steps}: {mean:.3f} nats an id, {spent:.0f} s", file=sys.stderr, flush=True)
            keep(kept, number, steps, state)
    return state["w"]


def begun(steps: int, kept: Path) -> tuple[int, dict[str, Weights]]:
    """How many steps are done, and weights and moments. Raises ValueError where ``kept`` is on its way to others."""
    parts = ("w", "first", "second")
    if not kept.exists():
        w = first_weights()
        return 0, {part: w if part == "w" else {name: jnp.zeros_like(x) for name, x in w.items()} for part in parts}
    with np.load(kept) as file:
        if file["steps"] != steps:
            raise ValueError(f"{kept} is of a training of {file['steps']} steps, not {steps}: remove it")
        return int(file["done"]), {
            part: {name: jnp.asarray(file[f"{part} {name}"]) for name in SHAPE.tensors()} for part in parts
        }


def keep(path: Path, done: int, steps: int, state: Mapping[str, Weights]) -> None:
    """Write the weights and moments, whole or not at all."""
    arrays = {f"{part} {name}": np.asarray(x) for part, named in state.items() for name, x in named.items()}
    part = path.with_suffix(".part.npz")
    np.savez(part, done=done, steps=steps, **arrays)
    part.replace(path)


def encoded(text: Text) -> tuple[np.ndarray, object]:
    """i32[n], the training files' ids with END behind each, and the tokenizer."""
    tokenizer = tokenizer_of([content for _, content in text.training])
    end = tokenizer.token_to_id(END)
    pieces = tokenizer.encode_batch([content for _, content in text.training], add_special_tokens=False)
    return np.concatenate([np.array([*piece.ids, end], np.int32) for piece in pieces]), tokenizer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    try:
        make(arguments.out, arguments.steps)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def make(folder: Path, steps: int) -> None:
    """Write the model and its texts. Raises ValueError with one sentence."""
    text, kept = gather(), folder / "training.npz"
    folder.mkdir(parents=True, exist_ok=True)
    write_texts(text, folder)
    ids, tokenizer = encoded(text)
    print(f"{len(ids)} ids of {sum(len(content.encode()) for _, content in text.training)} bytes", file=sys.stderr)
    weights = {name: np.asarray(x) for name, x in trained(ids, steps, kept).items()}
    write_gguf(folder / "model-F16.gguf", weights, tokenizer)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
