"""hifi_ref/mixtures/web_rwkv.py: the ends of a model keep eight bits, what is no matrix of a layer sixteen."""

import numpy as np

from hifi_ref import neighbours as nb
from hifi_ref.mixtures import web_rwkv


def model(layers, layer="blocks", first="emb.weight", last="head.weight"):
    shapes = {first: (500, 64), last: (500, 64), "ln_out.weight": (64,)}
    for i in range(layers):
        shapes |= {
            f"{layer}.{i}.att.key.weight": (64, 64),
            f"{layer}.{i}.ffn.value.weight": (64, 256),
            f"{layer}.{i}.ln1.weight": (64,),
            f"{layer}.{i}.att.w1": (64, 8),
        }
    return shapes


def test_ends_and_middle():
    for shapes in (model(6), model(6, "blk", "token_embd.weight", "output.weight")):
        kinds = web_rwkv.types(shapes)
        assert kinds.keys() == shapes.keys()
        by_layer = [{kind for name, kind in kinds.items() if f".{i}." in name and len(shapes[name]) == 2
                     and name.endswith("weight")} for i in range(6)]  # fmt: skip
        assert by_layer == [{"web-rwkv.int8"}] * 2 + [{"web-rwkv.nf4"}] * 2 + [{"web-rwkv.int8"}] * 2
        others = {kind for name, kind in kinds.items() if not name.endswith(("key.weight", "value.weight"))}
        assert others == {"F16"}


def test_a_short_model_is_all_ends():
    assert "web-rwkv.nf4" not in web_rwkv.types(model(4)).values()
    assert set(web_rwkv.types({"emb.weight": (4, 4)}).values()) == {"F16"}


def test_what_fills_no_words_stays():
    assert web_rwkv.types({"blocks.0.att.key.weight": (3, 7)}) == {"blocks.0.att.key.weight": "F16"}


def test_sizes_are_those_of_what_is_stored():
    shapes = model(5)
    kinds, sizes = web_rwkv.types(shapes), web_rwkv.sizes(shapes)
    for name, shape in shapes.items():
        x = np.ones(shape, np.float32)
        stored = [x.astype(np.float16)] if kinds[name] == "F16" else nb.encode(kinds[name], x).values()
        assert sizes[name] == sum(array.nbytes for array in stored), name
