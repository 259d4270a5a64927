"""Fused projections: how each architecture keeps query, key and value in one tensor, and takes them apart.

| | rows of the checkpoint's tensor | rows of the GGUF's |
|---|---|---|
| gptneox, bloom | of each head its q, k, v | one tensor: all q, all k, all v |
| falcon | of each key head its queries, its key, its value | one tensor: all q, all k, all v |
| internlm2 | of each key head its queries, its key, its value | q and k interleaved, v |
| baichuan | all q, all k, all v | q and k interleaved, v |
| bailingmoe | all q, all k, all v | q and k interleaved, v |
| ernie | all q, all k, all v | q, k, v |
| deepseek2 | of each key head its key without rotation, its value | k turned by head, v |
| qwen3next | of each key head q, k, values, gates | one tensor: all q, all k, all v; and the gates |
"""

from __future__ import annotations

from hifi_ref.model_files.hugging_face.model import Model
from hifi_ref.model_files.hugging_face.steps import Maker, cut, interleaved_rows, regrouped
from hifi_ref.model_files.hugging_face.tensors import Tensor, joined, viewed


def by_head(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """gptneox and bloom: q, k and v of each head become all q, all k and all v."""
    parts = regrouped(slice(0, 1), slice(1, 2), slice(2, 3))(tensor, model.heads, 3)
    return [joined(parts)]


def by_key_head(tensor: Tensor, model: Model) -> list[Tensor]:
    """Queries, keys and values of a tensor that has them by key head."""
    heads = model.heads
    keys = model.find("num_kv_heads", "n_head_kv") or 1
    return regrouped(slice(0, -2), slice(-2, -1), slice(-1, None))(tensor, keys, heads // keys + 2)


def falcon(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    return [joined(by_key_head(tensor, model))]


def internlm2(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    keys = model.key_heads
    each = model.heads // keys + 2
    q, k, v = regrouped(slice(0, -2), slice(-2, -1), slice(-1, None))(tensor, keys, each)
    # Two reorderings in one view: the head of a key head's group, then the halves of each head.
    rows, width = tensor.shape
    size = rows // keys // each
    shaped = (keys, each, 2, size // 2, width)

    def view(group: slice, shape: tuple[int, ...]) -> Tensor:
        return viewed(tensor, lambda x: x.reshape(shaped)[:, group].swapaxes(2, 3), shape)

    return [view(slice(0, -2), q.shape), view(slice(-2, -1), k.shape), v]


def baichuan(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    q, k, v = cut(tensor, [tensor.shape[0] // 3] * 3)
    return [interleaved_rows(q, model.heads), interleaved_rows(k, shared_heads(model)), v]


def shared_heads(model: Model) -> int:
    """By which heads baichuan and xverse interleave keys: where heads share keys, by the number that share one."""
    return model.heads if model.heads == model.key_heads else model.heads // model.key_heads


def split_sizes(model: Model) -> list[int]:
    size = model.find("head_dim") or model.number("hidden_size") // model.heads
    return [model.heads * size, model.key_heads * size, model.key_heads * size]


def bailingmoe(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    q, k, v = cut(tensor, split_sizes(model))
    return [interleaved_rows(q, model.heads), interleaved_rows(k, model.key_heads), v]


def ernie(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    return cut(tensor, split_sizes(model))


def latent(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """deepseek2's kv_b: the keys of each head turned, and the values; and the whole, as older converters left it."""
    keys, values, heads = model.number("qk_nope_head_dim"), model.number("v_head_dim"), model.key_heads
    rank = tensor.shape[1]
    if tensor.shape[0] != heads * (keys + values):
        raise ValueError(tensor.shape)
    shaped = (heads, keys + values, rank)
    return [
        viewed(tensor, lambda x: x.reshape(shaped)[:, :keys].swapaxes(1, 2), (heads, rank, keys)),
        viewed(tensor, lambda x: x.reshape(shaped)[:, keys:], (heads, values, rank)),
        tensor,
    ]


def qwen3next(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    heads, size = model.number("linear_num_key_heads"), model.number("linear_key_head_dim")
    values = model.number("linear_num_value_heads") // heads * model.number("linear_value_head_dim")
    rows, width = tensor.shape
    shaped = (heads, rows // heads, width)
    ends = [0, size, 2 * size, 2 * size + values, rows // heads]

    def part(start: int, stop: int) -> Tensor:
        return viewed(tensor, lambda x: x.reshape(shaped)[:, start:stop], (heads * (stop - start), width))

    q, k, v, z = (part(start, stop) for start, stop in zip(ends, ends[1:], strict=False))
    return [joined([q, k, v]), z]


def heads_tiled(size_key: str) -> Maker:
    """qwen3.5: the value heads of each key head become the first of all key heads, the second of all, and so on.

    ``size_key`` is the rows of a head in config.json, "" for one; with "qkv" the tensor has queries and keys before.
    """

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        keys, values = model.number("linear_num_key_heads"), model.number("linear_num_value_heads")
        before = 2 * keys * model.number("linear_key_head_dim") if size_key == "qkv" else 0
        size = model.number("linear_value_head_dim") if size_key else 1
        rows, *rest = tensor.shape
        if keys == values:
            return [tensor]
        head, tail = cut_rows(tensor, before)
        shaped = (keys, values // keys, size, *rest)
        reordered = viewed(tail, lambda x: x.reshape(shaped).swapaxes(0, 1), tail.shape)
        return [joined([head, reordered]) if before else reordered]

    return make


def cut_rows(tensor: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """The rows before, and the rest, of the first axis."""
    return viewed(tensor, lambda x: x[:at]), viewed(tensor, lambda x: x[at:])


def columns_tiled(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """qwen3.5's output projection, whose columns are value heads: tiled as their rows are."""
    keys, values = model.number("linear_num_key_heads"), model.number("linear_num_value_heads")
    if keys == values:
        return [tensor]
    rows = tensor.shape[0]
    shaped = (rows, keys, values // keys, model.number("linear_value_head_dim"))
    return [viewed(tensor, lambda x: x.reshape(shaped).swapaxes(1, 2), tensor.shape)]
