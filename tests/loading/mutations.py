"""What can be wrong with a model: every key and tensor dropped, renamed, of another kind, another value, another shape.

Each mutation is a label and a model. Labels are stable, so a disagreement can be looked at by its label alone.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hifi_ref.loading.tables import common_keys, family
from tests.loading.models import SOUND, Model, Shape, build, sound, vocabulary

Mutation = tuple[str, Model]
Edit = Callable[[Model], None]

INTEGERS = ("u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64")
RANGES = {"u8": 1 << 8, "u16": 1 << 16, "u32": 1 << 32, "u64": 1 << 64}
NAN, INF = float("nan"), float("inf")
FLOATS = (0.0, -1.0, NAN, INF, -INF, 1e30, 1e-30)
NAMES = (
    "",
    "x",
    "linear",
    "yarn",
    "longrope",
    "none",
    "llama",
    "gpt2",
    "bert",
    "t5",
    "Phi-3 mini",
    "qwen2",
    "clip",
    "bloom",
)
TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "IQ4_NL", "MXFP4", "NVFP4", "I8", "I32", "F64")
# Keys beside those of the common table and the families'.
FURTHER = {
    "u32": """{arch}.vocab_size {arch}.expert_feed_forward_length {arch}.attention.sliding_window
        tokenizer.ggml.eot_token_id tokenizer.ggml.fim_pre_token_id tokenizer.ggml.prefix_token_id
        tokenizer.ggml.token_type_count""",
    "bool": """tokenizer.ggml.add_sep_token tokenizer.ggml.add_space_prefix tokenizer.ggml.remove_extra_whitespaces
        tokenizer.ggml.normalizer.lowercase {arch}.use_parallel_residual""",
    "string": "general.type tokenizer.chat_template {arch}.tensor_data_layout",
    "u16": "split.count split.no", "i32": "split.tensors.count", "[i32]": "tokenizer.ggml.suppress_tokens",
    "[f32]": "tokenizer.ggml.scores", "[string]": "tokenizer.ggml.merges",
}  # fmt: skip
EXTRA = """
output.weight output.bias output.scale output_norm.bias rope_freqs.weight rope_factors_long.weight token_types.weight
cls.weight cls.output.weight dense_2.weight x blk.x.y blk.0.attn_q.bias blk.0.attn_qkv.bias blk.0.attn_qkv.weight
blk.1.attn_output.bias blk.0.attn_norm.bias blk.0.attn_q_norm.weight blk.0.attn_rot_embd.weight blk.0.attn_q.scale
blk.0.ffn_gate.bias blk.0.ffn_down.bias blk.1.ffn_up.input_scale blk.0.ffn_up_exps.scale blk.0.ffn_gate_inp.weight
blk.0.ffn_gate_shexp.weight blk.9.attn_norm.weight
""".split()


# Sizes of Shape that whole models are built with.
RESHAPED = """
heads=1,kv=1 heads=3,kv=1 heads=4,kv=3 kv=1 kv=4 kv=8 head=8 head=32 head=15 head=17 embd=96 embd=80 embd=128,head=32
ff=1 ff=33 layers=1 layers=9 window=16 window=1 experts=3 experts=2 experts=8,used=8 experts=1,used=1 experts=20,used=20
experts=6,used=3 layers=24,experts=24,used=24 layers=12,experts=24,used=20 layers=7,experts=50,used=50
layers=40,experts=16,used=14 layers=40,experts=16,used=8
""".split()


def all_of(name: str, step: int = 1) -> Iterator[Mutation]:
    """Every mutation of one of SOUND, or every step-th, the sound model first."""
    yield f"{name}: sound", sound(name)
    for label, edit in _edits(name)[::step]:
        model = sound(name)
        edit(model)
        yield f"{name}: {label}", model
    for label, shape in _reshaped(name)[::step]:
        yield f"{name}: {label}", build(shape)


def pairs(name: str, count: int, seed: int = 1) -> Iterator[Mutation]:
    """Two mutations at once, and three, drawn by a seed."""
    edits = _edits(name)
    draw = random.Random(f"{seed}/{name}")
    for i in range(count):
        chosen, model = draw.sample(edits, 2 + i % 2), sound(name)
        try:
            for _, edit in chosen:
                edit(model)
        except (KeyError, IndexError):
            continue
        yield f"{name}: {' + '.join(label for label, _ in chosen)}", model


@functools.cache
def _edits(name: str) -> list[tuple[str, Edit]]:
    makers = (_keys, _added_keys, _tensors, _added_tensors, _wholes)
    return [edit for maker in makers for edit in maker(sound(name))]


def _set(key: str, kind: str, value: Any) -> Edit:
    return lambda model: model.keys.update({key: (kind, value)})


def _keys(model: Model) -> Iterator[tuple[str, Edit]]:
    for key, (kind, value) in model.keys.items():
        yield f"drop {key}", lambda m, key=key: m.keys.pop(key)
        yield f"rename {key}", lambda m, key=key: m.keys.update({key + "x": m.keys.pop(key)})
        for other, changed in _other_kinds(kind, value, _layers(model)):
            yield f"{key} as {other} {str(changed)[:20]}", _set(key, other, changed)
        for changed in _other_values(kind, value):
            yield f"{key} = {str(changed)[:40]} ({_length(changed)})", _set(key, kind, changed)


def _added_keys(model: Model) -> Iterator[tuple[str, Edit]]:
    """Keys that the release reads and the model lacks, with values in and out of sense."""
    a, layers = model.architecture, _layers(model)
    known = {key.name: key.kind.split("|")[0] for key in (*common_keys(), *family(a).keys)}
    known |= {key: kind for kind, keys in FURTHER.items() for key in keys.split()}
    for name, kind in known.items():
        key = name.replace("{arch}", a)
        kind = {"strings": "[string]", "any[]": "u32"}.get(kind, "u32" if kind.startswith("pattern") else kind)
        if key in model.keys:
            continue
        for value in _plain_values(kind):
            yield f"add {key} = {str(value)[:40]}", _set(key, kind, value)
            for other, changed in _other_kinds(kind, value, layers) if value == _plain_values(kind)[-1] else ():
                yield f"add {key} as {other} {str(changed)[:20]}", _set(key, other, changed)


def _plain_values(kind: str) -> list[Any]:
    if kind.startswith("["):
        item = _plain_values(kind[1:-1])
        return [[], item[:1], item[:2], [item[1], item[1]]]
    return {
        "u32": [0, 1, 2, 3, 4, 8, 16, 32, 64, 1000, (1 << 32) - 1], "u16": [0, 1, 2, 65535], "i32": [0, -1, 7],
        "f32": [*FLOATS, 2.0], "bool": [0, 1], "string": [*NAMES, "{{ x", "{% generation %}a{% endgeneration %}"],
    }[kind]  # fmt: skip


def _other_kinds(kind: str, value: Any, layers: int) -> Iterator[tuple[str, Any]]:
    if kind.startswith("["):
        item = kind[1:-1]
        if item == "string":
            yield "string", "x"
            yield from (("[u32]", [0] * len(value)), ("[i8]", [0] * len(value)), ("[f32]", [0.0] * len(value)))
            return
        yield item, value[0] if value else 0
        for other in ("u8", "i16", "u32", "i32", "f32", "f64", "u64", "bool"):
            if other != item:
                small = [max(0, min(int(x), 100)) for x in value]
                yield f"[{other}]", [min(x, 1) for x in small] if other == "bool" else small
        yield "[string]", [str(x) for x in value]
    elif kind == "string":
        yield from (("u32", 1), ("[string]", [value]), ("bool", 1))
    else:
        number = 0 if value != value or abs(value) == INF else value
        for other in (*INTEGERS, "f32", "f64", "bool"):
            if other != kind:
                limit = 127 if other in ("u8", "i8") else 1 if other == "bool" else 1 << 14
                whole = int(max(0, min(number, limit)))
                yield other, float(number) if other in ("f32", "f64") and abs(number) < 1e30 else whole
        yield "string", str(value)
        for length in (1, layers, layers + 1):
            yield f"[{kind}]", [value] * length
        if kind == "u32":
            small = int(min(number, 1 << 14))
            yield from (("[i32]", [small] * layers), ("[u64]", [small] * layers), ("[f32]", [float(small)] * layers))
            yield from (("[u16]", [small] * layers), ("[u32]", [small] * (layers - 1) + [small * 2 + 1]))
            yield from (("[u32]", [small + 1] + [small] * (layers - 1)), ("[bool]", [1] * layers))


def _other_values(kind: str, value: Any) -> Iterator[Any]:
    if kind.startswith("["):
        yield from ([], value[:1], value[:-1], [*value, value[-1]], value * 2)
        if kind == "[string]":
            yield from ([*value[:-1], ""], ["", *value[1:]], [*value[:-1], value[0]], [*value[:-1], "a\0b"])
            yield from ([*value[:-1], b"\xff\xfe"], [*value[:-2], "", ""], ["x y"] * len(value), [*value[:-1], "\0"])
            yield [*value[:-1], f"[EMPTY_{len(value) - 2}]"]
            yield [*value[:-2], "", f"[EMPTY_{len(value) - 2}]"]
        elif kind == "[i32]":
            for kinds in ([0], [6], [7], [-1], [99], [5], [4], [3], [2]):
                yield kinds * len(value)
                yield [*kinds, *value[1:]]
                yield [*value[:-1], *kinds]
        elif kind == "[f32]":
            yield [NAN] * len(value)
        else:
            for x in (0, 1, value[0] * 2, (1 << 32) - 1):
                yield [x] * len(value)
                yield [*value[:-1], x]
                yield [x, *value[1:]]
    elif kind == "string":
        yield from (name for name in NAMES if name != value)
        yield from (value.upper(), value + " ", value + "\0tail", b"\xff")
    elif kind == "f32":
        yield from FLOATS
    elif kind == "bool":
        yield 1 - int(value)
    else:
        tried = {0, 1, 2, 3, 5, 7, 8, 100, 512, 513, value - 1, value + 1, value * 2, value // 2, value * 3}
        limit = RANGES.get(kind, 1 << 31)
        tried |= {limit - 1, limit // 2, limit // 2 - 1, limit // 2 + value, limit - value}
        yield from (x for x in sorted(tried) if 0 <= x < limit and x != value)


def _tensors(model: Model) -> Iterator[tuple[str, Edit]]:
    for name, (shape, kind) in model.tensors.items():
        yield f"drop tensor {name}", lambda m, name=name: m.tensors.pop(name)
        yield f"rename tensor {name}", lambda m, name=name: m.tensors.update({name + "x": m.tensors.pop(name)})
        for other in TYPES:
            yield f"tensor {name} as {other}", _place(name, shape, other)
        for changed in _other_shapes(shape):
            yield f"tensor {name} {list(changed)}", _place(name, changed, kind)


def _place(name: str, shape: tuple[int, ...], kind: str = "F32") -> Edit:
    return lambda model: model.tensors.update({name: (shape, kind)})


def _other_shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for i, n in enumerate(shape):
        for changed in (0, 1, n - 1, n + 1, n * 2, n // 2):
            yield (*shape[:i], changed, *shape[i + 1 :])
    yield (*shape, 1)
    if len(shape) < 4:
        yield (*shape, 2)
        yield (1, *shape)
    if len(shape) > 1:
        yield shape[::-1]
        yield (shape[1], shape[0], *shape[2:])
    yield ()


def _added_tensors(model: Model) -> Iterator[tuple[str, Edit]]:
    embd, vocab = model.tensors["token_embd.weight"][0]
    for name in EXTRA:
        if name not in model.tensors:
            for shape in (
                (1,),
                (8,),
                (16,),
                (64,),
                (32,),
                (96,),
                (128,),
                (vocab,),
                (embd, vocab),
                (64, 64),
                (64, 128),
                (64, 1),
            ):
                yield f"add tensor {name} {list(shape)}", _place(name, shape)
    for name in ("rope_freqs.weight", "output.bias", "blk.0.attn_q.bias", "blk.0.attn_output.bias"):
        for kind in ("F16", "I32"):
            size = model.tensors.get(name, ({"rope_freqs.weight": (8,), "output.bias": (vocab,)}.get(name, (embd,)),))[
                0
            ]
            yield f"add tensor {name} {kind}", _place(name, size, kind)


def _wholes(model: Model) -> Iterator[tuple[str, Edit]]:
    """Layers dropped, added and renamed; the output tied and untied; all weights of another type."""
    layers, a = _layers(model), model.architecture
    for layer in range(layers):
        yield f"drop layer {layer}", lambda m, i=layer: _keep(m, lambda name: not name.startswith(f"blk.{i}."))
    yield "no tensors", lambda m: m.tensors.clear()
    yield "no metadata of the tokenizer", lambda m: _keep_keys(m, lambda key: not key.startswith("tokenizer."))
    yield "no metadata of the architecture", lambda m: _keep_keys(m, lambda key: not key.startswith(a + "."))
    yield "a layer more", lambda m: m.tensors.update(_copied(m, 0, layers))
    yield "a layer more, counted", lambda m: (m.tensors.update(_copied(m, 0, layers)), _count_layers(m, layers + 1))
    yield (
        "a layer less, counted",
        lambda m: (_keep(m, lambda n: not n.startswith(f"blk.{layers - 1}.")), _count_layers(m, layers - 1)),
    )
    yield "untied", lambda m: m.tensors.update({"output.weight": m.tensors["token_embd.weight"]})
    yield "tied", lambda m: m.tensors.pop("output.weight", None)
    for kind in ("F16", "Q8_0", "Q4_0", "NVFP4", "BF16"):
        yield f"matrices as {kind}", lambda m, kind=kind: _retype(m, kind)
    for scale in ("output.scale", "output.input_scale"):
        yield f"matrices as NVFP4, {scale}", lambda m, s=scale: (_retype(m, "NVFP4"), _place(s, (1,))(m))
    for vocab in ("llama", "gpt2", "bert", "none"):
        yield f"vocabulary {vocab}", lambda m, vocab=vocab: _swap_vocabulary(m, vocab)
    for other in (
        "llama",
        "qwen2",
        "qwen3",
        "qwen3moe",
        "phi3",
        "gemma2",
        "gemma3",
        "bert",
        "gemma",
        "mamba",
        "clip",
        "llama4",
    ):
        yield f"as {other}", lambda m, other=other: _rename_architecture(m, other)
    for experts, groups, used in (
        (4, 2, 1),
        (4, 2, 2),
        (8, 4, 2),
        (8, 4, 0),
        (6, 3, 2),
        (4, 3, 1),
        (2, 2, 1),
        (3, 3, 1),
        (8, 8, 1),
    ):
        changes = {
            "expert_count": experts,
            "expert_group_count": groups,
            "expert_group_used_count": used,
            "expert_used_count": 2,
        }
        yield f"groups {experts} {groups} {used}", lambda m, c=changes, e=experts: _regroup(m, c, e)
    yield "with a name that is phi-3's", _set("general.name", "string", "My Phi-3")


def _regroup(model: Model, changes: dict[str, int], experts: int) -> None:
    model.keys |= {f"{model.architecture}.{key}": ("u32", n) for key, n in changes.items()}
    for name, (shape, kind) in model.tensors.items():
        if "_exps" in name or "gate_inp" in name:
            model.tensors[name] = ((*shape[:-1], experts), kind)


def _keep(model: Model, which: Callable[[str], bool]) -> None:
    model.tensors = {name: entry for name, entry in model.tensors.items() if which(name)}


def _keep_keys(model: Model, which: Callable[[str], bool]) -> None:
    model.keys = {key: entry for key, entry in model.keys.items() if which(key)}


def _copied(model: Model, layer: int, to: int) -> dict[str, Any]:
    stem = f"blk.{layer}."
    return {n.replace(stem, f"blk.{to}."): entry for n, entry in model.tensors.items() if n.startswith(stem)}


def _count_layers(model: Model, layers: int) -> None:
    for key, (kind, value) in model.keys.items():
        if kind == "[u32]" and key.startswith(model.architecture):
            model.keys[key] = (kind, [value[0]] * layers)
    model.keys[f"{model.architecture}.block_count"] = ("u32", layers)


def _retype(model: Model, kind: str) -> None:
    model.tensors = {n: (s, kind if len(s) > 1 and s[0] % 64 == 0 else k) for n, (s, k) in model.tensors.items()}


def _swap_vocabulary(model: Model, kind: str) -> None:
    old = model.tensors["token_embd.weight"][0][1]
    _keep_keys(model, lambda key: not key.startswith("tokenizer."))
    model.keys |= vocabulary(kind)
    n = 100 if kind == "none" else len(model.keys["tokenizer.ggml.tokens"][1])
    if kind == "none":
        model.keys[f"{model.architecture}.vocab_size"] = ("u32", n)
    model.tensors = {name: (tuple(n if x == old else x for x in s), k) for name, (s, k) in model.tensors.items()}


def _rename_architecture(model: Model, other: str) -> None:
    stem = model.architecture + "."
    model.keys = {
        (other + "." + key.removeprefix(stem)) if key.startswith(stem) else key: v for key, v in model.keys.items()
    }
    model.keys["general.architecture"] = ("string", other)


def _reshaped(name: str) -> list[tuple[str, Shape]]:
    """Whole models of other sizes, consistent in themselves."""
    base = SOUND[name]
    flips = [{field: not getattr(base, field)} for field in ("tied", "fused", "bias")]
    sizes = [{k: int(n) for k, n in (word.split("=") for word in line.split(","))} for line in RESHAPED]
    every = (*sizes, *flips, {"arrays": True}, {"longrope": True}, {"freqs": True})
    return [(f"rebuilt with {changes}", replace(base, **changes)) for changes in every]


def _layers(model: Model) -> int:
    return model.keys[f"{model.architecture}.block_count"][1]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | str | bytes) else 0
