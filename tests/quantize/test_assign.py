"""--assign: types by tensor for a size, by rules, and as a file says."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import assignments
from hifi_ref.model_files.gguf_file import Tensor, open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import tensor_errors
from reference import quantizer
from tests.hostile import run_check
from tests.loading.models import TYPES
from tests.quantize import families

# Quick to encode without a compiler.
FEW = ["Q4_0", "Q5_0", "Q8_0"]
# And with importance.
WITHOUT_SEARCH = ["MXFP4", "Q8_0", "F16"]
# Weights by which all types have a place.
WIDE = {"ffn_down": 100, "attn_k": 0.01}


class Model:
    """A small model, its importance, and what --assign makes of it."""

    def __init__(self, folder: Path, family: str, kind: str = "F16") -> None:
        self.folder, self.out = folder, folder / "out.gguf"
        self.source = families.written(families.described(family), folder / "source.gguf", kind)
        self.rows = families.importance(self.source, folder / "i.dat")
        self.guided = f"--imatrix={folder / 'i.dat'}"

    def run(self, *flags: str) -> int:
        return quantize.main([*flags, str(self.source), str(self.out)])

    def asks(self, **fields: object) -> str:
        path = self.folder / "asked.json"
        path.write_text(json.dumps(fields))
        return f"--assign={path}"

    def types(self) -> dict[str, str]:
        return {tensor.name: tensor.type_name for tensor in open_gguf(self.out).tensors if len(tensor.shape) > 1}

    def error(self, tensor: Tensor, kind: str) -> float:
        """The share of noise in a product, from its definition."""
        x = np.frombuffer(open_gguf(self.source).blocks(tensor), "<f2").astype(np.float32).reshape(-1, tensor.shape[0])
        w = self.rows.get(tensor.name)
        y = hr.decode(kind, hr.encode(kind, x, w if FORMATS[kind].uses_importance else None)).reshape(x.shape)
        power = np.ones(len(x[0])) if w is None else w.astype(np.float64)
        return float((power * (x.astype(np.float64) - y) ** 2).sum() / (power * x.astype(np.float64) ** 2).sum())


Make = Callable[..., Model]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda family="llama", kind="F16": Model(tmp_path, family, kind)


def said(out: str, name: str) -> float:
    (found,) = re.findall(rf"^{re.escape(name)}: .*, error ([\d.e+-]+)", out, re.MULTILINE)
    return float(found)


# FOR A SIZE


def test_the_least_error_of_all(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three tensors all assignments are tried; errors are those of the definition."""
    model = make()
    free = r"blk\.0\.(attn_q|ffn_down|ffn_up)"
    asked = model.asks(candidates=FEW, types={rf"^(?!{free})": "Q8_0"}, weights={"ffn_down": 3})
    capsys.readouterr()
    assert model.run(asked, "--target-bpw=9.2", model.guided) == 0
    out = capsys.readouterr().out
    tensors = [t for t in open_gguf(model.source).tensors if re.match(free, t.name)]
    errors = {(t.name, kind): model.error(t, kind) for t in tensors for kind in FEW}
    sizes = {(t.name, kind): t.elements // 32 * FORMATS[kind].type_size for t in tensors for kind in FEW}
    found = open_gguf(model.out)
    weights = sum(t.elements for t in found.tensors)
    others = sum(t.known_nbytes for t in found.tensors if not re.match(free, t.name))
    of_all = []
    for kinds in itertools.product(FEW, repeat=3):
        own = [(t.name, kind) for t, kind in zip(tensors, kinds, strict=True)]
        if others + sum(sizes[key] for key in own) <= 9.2 * weights / 8:
            total = sum(errors[key] * (3 if "ffn_down" in key[0] else 1) for key in own)
            of_all.append((total, dict(own)))
    least, chosen = min(of_all, key=lambda pair: pair[0])
    assert 1 < len(of_all) < 27
    assert {name: model.types()[name] for name in chosen} == chosen
    assert float(re.findall(r"asked\.json: error ([\d.e-]+), at least", out)[0]) == pytest.approx(least, rel=1e-4)
    assert "no assignment of this size has less" in out
    for name, kind in chosen.items():
        assert said(out, name) == pytest.approx(errors[name, kind], rel=1e-2)


def test_a_size_is_kept_to(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    model = make("odd widths")
    plain = model.asks(candidates=["Q4_0"])
    assert model.run(plain, "--target-size=1G") == 0
    least = model.out.stat().st_size
    asked = model.asks(candidates=FEW)
    for more in (0, 300, 5000):
        assert model.run(asked, f"--target-size={least + more}", "--quiet") == 0
        assert least + more - 500 < model.out.stat().st_size <= least + more
    before, _ = model.out.read_bytes(), capsys.readouterr()
    assert model.run(asked, f"--target-size={least - 1}") == 2
    assert f"nothing is so small: with the smallest types it has {least} bytes" in capsys.readouterr().err
    assert model.out.read_bytes() == before


def test_the_release_writes_the_same(make: Make) -> None:
    """With --tensor-type for each tensor; and check reproduces every block."""
    model = make()
    assert model.run(model.asks(candidates=FEW, bits=6.8, weights=WIDE), model.guided, "--quiet") == 0
    kinds, number = model.types(), open_gguf(model.out).metadata["general.file_type"].integer
    assert set(kinds.values()) == set(FEW) and number in (2, 7, 8)
    overrides = [(f"^{re.escape(name)}$", TYPES[kind][0]) for name, kind in kinds.items()]
    keys = families.keys(model.folder / "i.dat", model.rows)
    answer = quantizer.quantize(
        model.source, model.folder / "theirs.gguf", number, overrides=overrides, importance=model.rows, keys=keys
    )
    assert not answer.problem and (model.folder / "theirs.gguf").read_bytes() == model.out.read_bytes()
    code, text, _ = run_check(str(model.out), f"--source={model.source}", "--ignore=L", model.guided)
    assert code == 0 and "\nreproduced: every block of every tensor" in text


def test_experts_and_hifi_types(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    model = make("qwen3moe")
    asked = model.asks(candidates=["Q4_0", "Q6_K_HIFI_RES8"], types={"ffn_(up|gate)": "q4_0"}, bits=8)
    assert model.run(asked, model.guided) == 0
    assert set(model.types().values()) == {"Q4_0", "Q6_K_HIFI_RES8", "F16"}
    name = "blk.0.ffn_down_exps.weight"
    tensor = next(t for t in open_gguf(model.source).tensors if t.name == name)
    x = np.frombuffer(open_gguf(model.source).blocks(tensor), "<f2").astype(np.float32)
    kind, noise, power = model.types()[name], 0.0, 0.0
    context = {} if kind == "Q4_0" else {"model_params": float(np.float32(_weights(model.source) / 1e9))}
    for own, w in zip(x.reshape(4, -1, 256), model.rows[name].reshape(4, 256), strict=True):
        y = hr.decode(kind, hr.encode(kind, own, w, **context)).reshape(own.shape).astype(np.float64)
        noise, power = noise + float((w * (own - y) ** 2).sum()), power + float((w * own.astype(np.float64) ** 2).sum())
    assert said(capsys.readouterr().out, name) == pytest.approx(noise / power, rel=1e-2)
    code, text, _ = run_check(str(model.out), f"--source={model.source}", "--ignore=L", model.guided)
    assert code == 0 and "\nreproduced: every block of every tensor" in text


def _weights(path: Path) -> int:
    return sum(tensor.elements for tensor in open_gguf(path).tensors)


def test_a_sample_is_near_the_whole(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows at even distances, of several matrices."""
    model = make("qwen3moe")
    assert model.run(model.asks(candidates=FEW, bits=6), "--quiet", f"--errors={model.folder / 'all'}") == 0
    monkeypatch.setattr(tensor_errors, "SAMPLE", 512)
    monkeypatch.setattr(tensor_errors, "MATRICES", 2)
    assert model.run(model.asks(candidates=FEW, bits=6), "--quiet", f"--errors={model.folder / 'few'}") == 0
    whole, few = (dict(np.load(model.folder / name)) for name in ("all", "few"))
    keys = whole.keys() - {"digest"}
    assert keys == few.keys() - {"digest"} and any(whole[key] != few[key] for key in keys)
    assert all(0.3 < float(few[key] / whole[key]) < 3 for key in keys)


def test_errors_are_kept(make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, measured = make(), []
    of_tensor = tensor_errors._of_tensor

    def counted(plans: list, *rest: object) -> dict[str, float]:
        measured.append(len(plans))
        if len(measured) == 5:
            raise KeyboardInterrupt
        return of_tensor(plans, *rest)

    monkeypatch.setattr(tensor_errors, "_of_tensor", counted)
    kept, tensors = f"--errors={model.folder / 'errors'}", len([t for t in _quantized(model.source)])
    asked = model.asks(candidates=WITHOUT_SEARCH)
    assert model.run(asked, "--target-bpw=8", kept, "--dry-run") == 130
    assert model.run(asked, "--target-bpw=8", kept, "--quiet") == 0
    # Four were kept, the fifth was interrupted.
    assert measured == [3] * (tensors + 1)
    assert model.run(asked, "--target-bpw=9", kept, "--quiet") == 0 and len(measured) == tensors + 1
    assert model.run(model.asks(candidates=[*WITHOUT_SEARCH, "NVFP4"]), "--target-bpw=9", kept, "--quiet") == 0
    assert measured[tensors + 1 :] == [1] * tensors
    assert model.run(asked, "--target-bpw=9", kept, "--quiet", model.guided) == 0
    assert measured[2 * tensors + 1 :] == [4] * tensors
    capsys.readouterr()
    assert model.run(asked, "--target-bpw=9", kept, model.guided, f"--card={model.folder / 'errors'}") == 2
    assert capsys.readouterr().err.endswith("errors: it is read as well\n") and len(measured) == 3 * tensors + 1
    (model.folder / "errors").write_text("something else")
    assert model.run(asked, "--target-bpw=9", kept) == 2
    assert "is not what an interrupted run keeps" in capsys.readouterr().err


def _quantized(path: Path) -> list[str]:
    return [t.name for t in open_gguf(path).tensors if len(t.shape) > 1 and "gate_inp" not in t.name]


# NAMES AND RULES


def test_the_names(make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    monkeypatch.setattr("hifi_ref.quantize.assigned.CANDIDATES", FEW)
    types = {}
    for name in assignments.MEASURED:
        assert model.run(f"--assign={name}", "--target-bpw=7", "--dry-run") == 0
        types[name] = set(re.findall(r"attn_.*-> (?:Q8_0|F16)", capsys.readouterr().out))
    assert types["attention-high"] > types["balanced"] == types["quality-max"]
    # Without a target, the bits that a name stands for.
    assert model.run("--assign=quality-max", "--dry-run") == 0
    (bits,) = re.findall(r"([\d.]+) bits a weight$", capsys.readouterr().out, re.MULTILINE)
    assert 6.4 < float(bits) <= 6.5625 == assignments.MEASURED["quality-max"].bits
    assert model.run("--assign=compression-max", "--dry-run") == 2


def test_the_rules(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    model = make("odd widths")
    assert model.run("--assign=attention-above-mlp", "--quiet") == 0
    types = model.types()
    # Rows of 320 and 288 are no whole super-blocks.
    assert types["blk.0.attn_q.weight"] == "Q5_0" and types["blk.0.ffn_up.weight"] == "Q4_0"
    assert types["output.weight"] == types["token_embd.weight"] == "Q8_0"
    model = make()
    assert model.run("--assign=attention-above-mlp", "--quiet") == 0 and model.types()["blk.2.ffn_up.weight"] == "Q2_K"
    assert model.run("--assign=ends-high", "--quiet") == 0
    assert model.types()["blk.0.ffn_up.weight"] == "Q8_0" and model.types()["output.weight"] == "F16"
    assert model.run("--assign=by-score", "--quiet", model.guided) == 0
    means = {name: float(row.mean()) for name, row in read_imatrix(model.folder / "i.dat").rows.items()}
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    types = model.types()
    assert (types[least], types[most], types["token_embd.weight"]) == ("Q2_K", "Q8_0", "Q8_0")
    assert model.run("--assign=by-score") == 2 and "--imatrix=FILE is needed" in capsys.readouterr().err
    assert [assignments.recommended_bits(s) for s in (1, 0.9, 0.89, 0.7, 0.5, 0.3, 0.29)] == [8, 8, 6, 6, 4, 3, 2]


def test_the_layers_between() -> None:
    shapes = {f"blk.{i}.ffn_up.weight": (256, 256) for i in range(6)}
    assert list(assignments.ends_high(shapes, {}).values()) == ["Q8_0"] * 2 + ["IQ4_XS"] * 2 + ["Q8_0"] * 2


# WHAT IS REFUSED


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "asked.json is no JSON"),
        ("[" * 100000, "asked.json is no JSON"),
        ("[]", "asked.json is no JSON object"),
        ('{"bit": 4}', "there is no field 'bit'; there are bits, candidates, types, weights"),
        ('{"bits": "4"}', "bits is no positive number"),
        ('{"bits": NaN}', "bits is no positive number"),
        ('{"bits": true}', "bits is no positive number"),
        (f'{{"bits": 1{"0" * 400}}}', "bits is no positive number"),
        ('{"candidates": "Q4_0"}', "candidates is no list of types"),
        ('{"candidates": ["Q9"]}', "'Q9' is no type; there are F32 F16"),
        ('{"candidates": ["Q8_K"]}', "'Q8_K' is no type"),
        ('{"candidates": [4]}', "'4' is no type"),
        ('{"types": []}', "types is no object of regular expressions"),
        ('{"types": {"(": "Q4_0"}}', "( in types is no regular expression"),
        ('{"types": {"ffn": null}}', "'None' is no type"),
        ('{"weights": {"ffn": 0}}', "the weight of ffn is no positive number"),
        ('{"bits": 4, "types": {"nothing": "Q4_0"}}', "no tensor that is quantized has a name that matches nothing"),
        ('{"types": {"": "Q4_K"}}', "are no whole blocks of Q4_K"),
        ('{"types": {"": "IQ2_XXS"}}', "are no whole blocks of IQ2_XXS"),
        ('{"bits": 5, "candidates": ["Q4_K"]}', "none of Q4_K can hold "),
        ('{"candidates": ["Q4_0"]}', "leaves 16 tensors to choose, such as blk.0.attn_k.weight: a target is needed"),
        ('{"bits": 4, "candidates": ["Q4_0"]}', "nothing is so small: with the smallest types it has 5.87"),
    ],
)
def test_a_file_that_asks_for_nothing_sensible(
    text: str, sentence: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make("odd widths")
    (model.folder / "asked.json").write_text(text)
    assert model.run(f"--assign={model.folder / 'asked.json'}") == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not model.out.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--assign=best"], "there is no --assign=best; there are balanced"),
        (["--assign=balanced", "--mixture=Q4_K_M"], "--assign does not go with --mixture"),
        (["--assign=balanced", "--pure"], "--assign does not go with --pure"),
        (["--assign=balanced", "--prune-layers=1"], "--assign does not go with --prune-layers"),
        (["--assign=balanced", "--target-bpw=4", "--target-size=1G"], "--target-size and --target-bpw do not go"),
        (["--assign=ends-high", "--target-bpw=4"], "a rule that measures nothing and takes no size"),
        (["--assign=balanced", "--target-bpw=nan"], "--target-bpw=nan is no number of bits"),
        (["--mixture=Q4_0", "--errors=x"], "--errors goes with --assign, which is not asked for"),
        (["--mixture=Q4_0", "--profile=balanced"], "--profile=balanced is no build; there are strict, clang-arm64"),
        (["--assign=nowhere.json"], "nowhere.json"),
    ],
)
def test_what_does_not_go_together(
    flags: list[str], sentence: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make("odd widths")
    assert model.run(*flags) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not model.out.exists()


def test_options_of_llama_quantize_count_first(make: Make) -> None:
    model = make()
    flags = ["--output-tensor-type=Q5_1", "--tensor-type=attn_k=Q5_1", "--leave-output-tensor", "--keep-split"]
    assert model.run(model.asks(candidates=FEW, bits=6), *flags[:2], "--quiet") == 0
    types = model.types()
    assert types["output.weight"] == types["blk.1.attn_k.weight"] == "Q5_1"
    assert set(types.values()) <= {"Q5_1", *FEW}
    assert model.run(model.asks(candidates=FEW, bits=7), *flags[1:], "--quiet") == 0
    model.out = model.folder / "out-00001-of-00001.gguf"
    assert model.types()["output.weight"] == "F16"
