"""Would llama.cpp load it: judged here, and asked of the release."""

import re
from itertools import chain

import pytest

from hifi_ref.loading import judge
from hifi_ref.loading.tables import FAMILIES, architectures, family, tokenizers
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.findings import CODES
from hifi_ref.model_files.gguf_file import open_gguf
from reference.fetch import library_dir
from reference.loader import outcomes
from tests.loading import mutations
from tests.loading.battery import compare
from tests.loading.models import SOUND, Model, sound

# Of each model every so many-th mutation is tried; `python -m tests.loading.battery` tries all.
STEP = 23


def verdict(tmp_path, model, name="model.gguf"):
    return judge([open_gguf(model.write(tmp_path / name))])


def sentences(parts):
    return [part.sentence for part in parts]


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_load(tmp_path, name):
    found = verdict(tmp_path, sound(name))
    assert (found.kind, found.problems, found.notes) == ("loads", (), ())


@pytest.mark.parametrize("name", SOUND)
def test_the_release_agrees(name):
    counts, wrong = compare(chain(mutations.all_of(name, STEP), mutations.pairs(name, 10)))
    assert not wrong
    assert counts["loads, loaded"] > 20 and counts["will not load, refused"] > 40
    assert sum(n for kind, n in counts.items() if kind.startswith("not judged")) < 0.05 * counts.total()


def test_every_family_is_among_the_sound_models():
    assert {shape.arch for shape in SOUND.values()} == set(FAMILIES)


def test_the_tables_name_what_the_library_holds():
    """A word of the tables that the release does not know would make a rule of nothing."""
    library = next(library_dir().glob("libllama.v*.so")).read_bytes()
    words = {*architectures(), *tokenizers("model"), *tokenizers("pre")}
    for name in FAMILIES:
        words |= {key.name.replace("{arch}", "%s") for key in family(name).keys}
        stems = {re.sub(r"\.(weight|bias)$", "", row.name) for row in family(name).tensors}
        words |= {stem.replace("*", "%d") for stem in stems}
    assert not [word for word in words if word.encode() + b"\0" not in library]


DROPPED = {
    "llama.block_count": "L002", "llama.attention.layer_norm_rms_epsilon": "L002", "tokenizer.ggml.tokens": "L007",
    "general.architecture": "L002",
}  # fmt: skip


@pytest.mark.parametrize("key", DROPPED)
def test_a_missing_key_is_named(tmp_path, key):
    model = sound("llama")
    del model.keys[key]
    found = verdict(tmp_path, model)
    assert found.kind == "will not load"
    assert [(p.code, p.subject, p.sentence) for p in found.problems] == [(DROPPED[key], key, f"{key} is missing")]


def test_every_problem_is_named_at_once(tmp_path):
    model = sound("qwen2")
    del model.tensors["blk.1.ffn_up.weight"]
    model.tensors["blk.0.attn_k.weight"] = ((64, 33), "F32")
    model.tensors["surplus"] = ((4,), "F32")
    found = verdict(tmp_path, model)
    assert [(p.code, p.sentence) for p in found.problems] == [
        ("L004", "tensor blk.1.ffn_up.weight is missing: [64, 96] is needed"),
        ("L005", "tensor blk.0.attn_k.weight has the shape [64, 33], where [64, 32] is needed"),
        ("L006", "tensor surplus is none that qwen2 has with these metadata"),
    ]
    assert "llama.cpp v0.5.0" in found.what_it_rests_on


def test_a_layer_without_tensors_gets_one_sentence(tmp_path):
    model = sound("llama")
    model.tensors = {name: entry for name, entry in model.tensors.items() if not name.startswith("blk.1.")}
    sentence = "layer 1 has none of its 9 tensors, and llama.block_count is 2"
    assert sentences(verdict(tmp_path, model).problems) == [sentence]


def test_each_code_of_a_mutation_is_a_finding(tmp_path):
    for label, model in mutations.all_of("mixtral", 40):
        try:
            found = verdict(tmp_path, model)
        except Exception as error:
            pytest.fail(f"{label}: {error!r}")
        for part in found.problems:
            assert CODES[part.code].severity == "error" and part.subject in part.sentence.replace("layer ", "blk."), (
                label
            )
        assert all(CODES[part.code].severity != "error" for part in found.notes)


def test_an_architecture_beyond_the_tables_is_not_judged(tmp_path):
    model = sound("llama")
    model.keys["general.architecture"] = ("string", "mamba")
    found = verdict(tmp_path, model)
    assert found.kind == "not judged"
    assert sentences(found.notes) == [
        "general.architecture is mamba, which llama.cpp knows and the tables here do not hold"
    ]
    model.keys["general.architecture"] = ("string", "lama")
    found = verdict(tmp_path, model)
    assert sentences(found.problems) == ["general.architecture is 'lama', which llama.cpp does not know"]


TEMPLATES = {
    "{% for m in messages %}{{ m.content }}{% if loop.last %}{% break %}{% endif %}{% endfor %}": None,
    "{% generation %}{{ x }}{% endgeneration %}": None,
    "{{ messages": "tokenizer.chat_template does not parse, line 1: unexpected end of template, expected 'end of print "
    "statement'.",
    b"\xff": "tokenizer.chat_template is not UTF-8 at byte 0",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_is_no_matter_of_loading(tmp_path, template):
    model = sound("llama")
    model.keys["tokenizer.chat_template"] = ("string", template)
    found = verdict(tmp_path, model)
    assert found.kind == "loads" and outcomes([tmp_path / "model.gguf"])[0].loads
    assert sentences(found.notes) == ([TEMPLATES[template]] if TEMPLATES[template] else [])


def test_what_loads_may_still_be_doubtful(tmp_path):
    model = sound("llama")
    model.keys["llama.attention.layer_norm_rms_epsilon"] = ("f32", float("nan"))
    model.keys["tokenizer.ggml.bos_token_id"] = ("u32", 100000)
    model.keys["llama.context_length"] = ("u32", 0)
    found = verdict(tmp_path, model)
    assert found.kind == "loads" and outcomes([tmp_path / "model.gguf"])[0].loads
    assert [part.code for part in found.notes] == ["L009", "L011", "L011"]


def shards(tmp_path, change=None):
    """A model in three files; the first holds the metadata."""
    whole = sound("llama")
    names = list(whole.tensors)
    parts = [Model(dict(whole.keys) if i == 0 else {}, {n: whole.tensors[n] for n in names[i::3]}) for i in range(3)]
    for i, part in enumerate(parts):
        part.keys |= {"split.no": ("u16", i), "split.count": ("u16", 3), "split.tensors.count": ("i32", len(names))}
    if change:
        change(parts)
    return [part.write(tmp_path / f"m-{i + 1:05}-of-00003.gguf") for i, part in enumerate(parts)]


def first_key(key, kind, value):
    return lambda parts: parts[0].keys.update({key: (kind, value)})


SHARDS = {
    "whole": None,
    "no number": lambda parts: parts[1].keys.pop("split.no"),
    "another number of tensors": first_key("split.tensors.count", "i32", 5),
    "number of tensors as u32": first_key("split.tensors.count", "u32", 21),
    "a tensor twice": lambda parts: parts[1].tensors.update(list(parts[0].tensors.items())[:1]),
    "a tensor less": lambda parts: parts[2].tensors.popitem(),
    "count as u32": first_key("split.count", "u32", 3),
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_are_judged_together(tmp_path, name):
    paths = shards(tmp_path, SHARDS[name])
    kind = "loads" if name == "whole" else "will not load"
    assert judge(open_gguf(path) for path in paths[::-1]).kind == kind
    assert outcomes(paths[:1])[0].loads == (name == "whole")


def test_a_shard_alone_is_not_judged(tmp_path):
    paths = shards(tmp_path)
    found = judge([open_gguf(paths[1])])
    sentence = "split.count: shard 2 of 3 is given, and a model is judged by all of its shards"
    assert (found.kind, sentences(found.notes)) == ("not judged", [sentence])
    with pytest.raises(InputError, match="2 files were given for one model"):
        judge([open_gguf(sound("llama").write(tmp_path / "a.gguf")), open_gguf(paths[0])])


def others():
    pair = {"blk.0.attn_q.weight.lora_a": ((64, 4), "F32"), "blk.0.attn_q.weight.lora_b": ((4, 64), "F32")}
    vocabulary = sound("llama")
    vocabulary.tensors = {}
    adapter = {"general.type": ("string", "adapter"), "adapter.type": ("string", "lora")}
    return {
        "LoRA adapter": Model({"general.architecture": ("string", "llama"), **adapter}, pair),
        "projector": Model({"general.architecture": ("string", "clip")}, {"v.x": ((4,), "F32")}),
        "control vector": Model({"general.architecture": ("string", "controlvector")}, {"direction.1": ((64,), "F32")}),
        "importance matrix": Model({"general.type": ("string", "imatrix")}, {"x.in_sum2": ((4,), "F32")}),
        "vocabulary": vocabulary,
    }


@pytest.mark.parametrize("what", others())
def test_files_that_are_no_models_are_named(tmp_path, what):
    found = verdict(tmp_path, others()[what])
    assert found.kind == "no model" and not found.problems
    assert len(found.notes) == 1 and what in found.notes[0].sentence
    assert not outcomes([tmp_path / "model.gguf"])[0].loads


ADAPTERS = {
    "whole": lambda m: None,
    "half": lambda m: m.tensors.pop("blk.0.attn_q.weight.lora_b"),
    "another tensor": lambda m: m.tensors.update({"x": ((4,), "F32")}),
    "a norm": lambda m: m.tensors.update({"blk.0.attn_norm.weight": ((64,), "F32")}),
    "no type": lambda m: m.keys.pop("adapter.type"),
    "another type": lambda m: m.keys.update({"adapter.type": ("string", "ia3")}),
    "no general type": lambda m: m.keys.pop("general.type"),
    "alpha as f64": lambda m: m.keys.update({"adapter.lora.alpha": ("f64", 1.0)}),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_are_judged_as_such(tmp_path, name):
    adapter = others()["LoRA adapter"]
    ADAPTERS[name](adapter)
    found = verdict(tmp_path, adapter)
    base = sound("llama").write(tmp_path / "base.gguf")
    assert found.kind == "no model"
    assert outcomes([tmp_path / "model.gguf"], adapted=base)[0].loads == (not found.problems)


@pytest.mark.parametrize("key", [None, "tokenizer.ggml.tokens", "tokenizer.ggml.model", "general.architecture"])
def test_vocabularies_are_judged_as_such(tmp_path, key):
    model = others()["vocabulary"]
    # Its tokens are what a file without tensors is known by.
    model.keys.pop(key, None) if key != "tokenizer.ggml.tokens" else model.keys.update({key: ("[string]", ["a", "a"])})
    found = verdict(tmp_path, model)
    assert found.kind == "no model"
    assert outcomes([tmp_path / "model.gguf"], vocab_only=True)[0].loads == (not found.problems)
