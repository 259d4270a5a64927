"""llama-quantize's options: with each the release's own file, byte for byte, or refused as the release refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hifi_ref.mixtures.llama_quantize import file_types
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.quantize import command as quantize
from reference import quantizer
from tests import sources
from tests.check import rewrite
from tests.loading.models import TYPES, Model
from tests.quantize import families


def ids(*overrides: tuple[str, str]) -> dict[str, Any]:
    return {"overrides": [(pattern, TYPES[kind][0]) for pattern, kind in overrides]}


class Both:
    """A source, and what the release and this project make of it."""

    def __init__(self, folder: Path, model: Model | None = None, kind: str = "F16") -> None:
        self.folder = folder
        self.source = families.written(model or families.described("llama"), folder / "source.gguf", kind)

    def same(self, file_type: str, flags: list[str], params: Mapping[str, Any], source: Path | None = None) -> bool:
        """Whether both write the same bytes, or both refuse."""
        ours, theirs = self.folder / "ours.gguf", self.folder / "theirs.gguf"
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        given = source or self.source
        answer = quantizer.quantize(given, theirs, file_types().get(file_type, 0), **params)
        what = "--copy" if file_type == "COPY" else f"--mixture={file_type}"
        code = quantize.main([what, "--quiet", *flags, str(given), str(ours)])
        if answer.problem:
            return code == 2 and not ours.exists()
        return code == 0 and ours.read_bytes() == theirs.read_bytes()


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


CASES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("Q4_K_M", ["--pure"], {"pure": True}),
    ("Q4_K_M", ["--leave-output-tensor"], {"quantize_output_tensor": False}),
    ("Q4_K_M", ["--output-tensor-type=q8_0"], {"output_tensor_type": 8}),
    ("Q4_K_M", ["--token-embedding-type=F32"], {"token_embedding_type": 0}),
    ("Q4_K_M", ["--token-embedding-type=bf16", "--pure"], {"token_embedding_type": 30, "pure": True}),
    ("Q4_K_M", ["--tensor-type=ATTN_V=q8_0", "--tensor-type=blk\\.[02]\\.ffn=iq4_nl"],
     ids(("attn_v", "Q8_0"), (r"blk\.[02]\.ffn", "IQ4_NL"))),
    ("Q5_K_S", ["--tensor-type=ffn_(up|down)=f16", "--tensor-type=.*=nvfp4"],
     ids(("ffn_(up|down)", "F16"), (".*", "NVFP4"))),
    ("Q2_K", ["--tensor-type=attn_k=iq2_xxs"], ids(("attn_k", "IQ2_XXS"))),
    ("F16", ["--tensor-type=attn_k=q4_0"], ids(("attn_k", "Q4_0"))),
    ("Q3_K_M", ["--prune-layers=1"], {"prune": [1]}),
    ("Q3_K_M", ["--prune-layers=2,0,2"], {"prune": [0, 2]}),
    ("Q3_K_M", ["--prune-layers=9"], {"prune": [9]}),
    ("Q4_0", ["--override-kv=a.b=int:-7", "--override-kv=c=float:1.5", "--override-kv=d=bool:true",
              "--override-kv=e=str:a=b:c", "--override-kv=a.b=int:8"],
     {"keys": {"c": 1.5, "d": True, "e": "a=b:c", "a.b": 8}}),
    ("Q4_0", ["--override-kv=tokenizer.ggml.tokens=str:none", "--override-kv=general.name=str:other"],
     {"keys": {"tokenizer.ggml.tokens": "none", "general.name": "other"}}),
    ("Q4_K_M", ["--override-kv=general.file_type=int:3"], {"keys": {"general.file_type": 3}}),
    ("COPY", [], {"only_copy": True}),
    ("COPY", ["--prune-layers=0", "--override-kv=x=int:1"], {"only_copy": True, "prune": [0], "keys": {"x": 1}}),
]  # fmt: skip


@pytest.mark.parametrize(("file_type", "flags", "params"), CASES)
def test_byte_for_byte(both: Both, file_type: str, flags: list[str], params: dict[str, Any]) -> None:
    assert both.same(file_type, flags, params)


@pytest.mark.parametrize("experts", [8, 6])
def test_overrides_decide_on_types(tmp_path: Path, experts: int) -> None:
    both = Both(tmp_path, families.described("mixtral"))
    key = "llama.expert_count"
    assert both.same("Q4_K_M", [f"--override-kv={key}=int:{experts}"], {"keys": {key: experts}})
    types = {t.name: t.type_name for t in open_gguf(tmp_path / "ours.gguf").tensors}
    assert types["blk.0.attn_k.weight"] == ("Q8_0" if experts == 8 else "Q4_K")


def test_types_from_a_file(both: Both, tmp_path: Path) -> None:
    (tmp_path / "types.txt").write_text("attn_q=Q8_0\n\n ffn_up=q5_1 attn_v=Q6_K\n")
    flags = ["--tensor-type=attn_q=Q2_K", f"--tensor-type-file={tmp_path / 'types.txt'}"]
    wanted = ids(("attn_q", "Q2_K"), ("attn_q", "Q8_0"), ("ffn_up", "Q5_1"), ("attn_v", "Q6_K"))
    assert both.same("Q4_K_S", flags, wanted)


@pytest.mark.parametrize(
    ("flags", "keeps"),
    [
        ([], lambda name: True),
        (["--include-weights=attn_q", "--include-weights=ffn"], lambda name: "attn_q" in name or "ffn" in name),
        (["--exclude-weights=blk.1.", "--exclude-weights=output"], lambda n: "blk.1." not in n and "output" not in n),
        (["--exclude-weights=weight"], lambda name: False),
        (["--prune-layers=1"], lambda name: True),
    ],
)
@pytest.mark.parametrize("file_type", ["Q4_K_M", "IQ3_M", "IQ2_S"])
def test_importance(both: Both, tmp_path: Path, file_type: str, flags: list[str], keeps: Any) -> None:
    rows = families.importance(both.source, tmp_path / "i.dat")
    rows = {name: row for name, row in rows.items() if keeps(name)}
    params: dict[str, Any] = {"importance": rows, "keys": families.keys(tmp_path / "i.dat", rows)} if rows else {}
    params |= {"prune": [1]} if flags == ["--prune-layers=1"] else {}
    assert both.same(file_type, [f"--imatrix={tmp_path / 'i.dat'}", *flags], params)


def test_a_matrix_of_another_model(both: Both, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    wider = families.written(families.described("odd widths"), other / "wider.gguf")
    named = families.written(Model(tensors={"a.weight": ((256, 2), "F32")}), other / "named.gguf")
    tensors = {"blk.0.attn_q.weight": ((256, 256), "F32"), "blk.7.attn_q.weight": ((256, 256), "F32")}
    deeper = families.written(Model(tensors=tensors), other / "deeper.gguf")
    for source, wanted in [
        (wider, "the importance of output.weight has 320 values for a shape of [256, 6]"),
        (named, "i.dat is the importance matrix of another model: source.gguf has none of its 1 tensors, such as a."),
        (deeper, "i.dat is the importance matrix of another model: its last layer is 7, and that of source.gguf 2"),
    ]:
        families.importance(source, tmp_path / "i.dat")
        out = tmp_path / "out.gguf"
        assert quantize.main(["--mixture=Q4_K_M", f"--imatrix={tmp_path / 'i.dat'}", str(both.source), str(out)]) == 2
        assert wanted in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q8_0", "F16", "COPY"])
def test_quantized_sources(both: Both, tmp_path: Path, file_type: str) -> None:
    quantized = tmp_path / "quantized.gguf"
    assert not quantizer.quantize(both.source, quantized, file_types()["Q4_K_M"]).problem
    params = {"only_copy": True} if file_type == "COPY" else {}
    assert both.same(file_type, [], params, quantized)
    assert both.same(file_type, ["--allow-requantize"], params | {"allow_requantize": True}, quantized)


@pytest.mark.parametrize("layers", [(), (0,), (1, 2)])
@pytest.mark.parametrize("count", [1, 3])
def test_split_sources(both: Both, tmp_path: Path, count: int, layers: tuple[int, ...]) -> None:
    """Whole and in as many shards, whichever shard is named, and by their folder."""
    folder, ours, theirs = tmp_path / "shards", tmp_path / "ours", tmp_path / "theirs"
    for path in (folder, ours, theirs):
        path.mkdir()
    shards = rewrite.split(folder, "s", rewrite.read(both.source), count) if count > 1 else [both.source]
    prune = [f"--prune-layers={','.join(map(str, layers))}"] if layers else []
    for keep in (False, True):
        flags = ["--mixture=Q3_K_M", "--quiet", *prune, *(["--keep-split"] if keep else [])]
        name = "out" if keep else "out.gguf"
        assert not quantizer.quantize(
            shards[0], theirs / name, file_types()["Q3_K_M"], prune=layers, keep_split=keep
        ).problem
        wanted = {path.name: path.read_bytes() for path in theirs.iterdir()}
        for given in {shards[0], shards[-1], *([folder] if count > 1 else [])}:
            for path in ours.iterdir():
                path.unlink()
            assert quantize.main([*flags, str(given), str(ours / "out.gguf")]) == 0
            assert {path.name: path.read_bytes() for path in ours.iterdir()} == wanted
        for path in theirs.iterdir():
            path.unlink()


def test_shards_that_do_not_belong_together(both: Both, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(path: Path) -> str:
        assert quantize.main(["--mixture=Q8_0", str(path), str(tmp_path / "out.gguf")]) == 2
        return capsys.readouterr().err

    shards = rewrite.split(tmp_path, "s", rewrite.read(both.source), 3)
    second = shards[1].read_bytes()
    shards[1].unlink()
    assert "is one shard of several, and these are not there: s-00002-of-00003.gguf" in refused(shards[2])
    shards[1].write_bytes(shards[0].read_bytes())
    assert "s-00002-of-00003.gguf is shard 2 by its name, and its split.no is 0" in refused(shards[0])
    shards[1].write_bytes(second)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(shards[0].read_bytes())
    assert "is one of 3 shards by its split.count, and there are 1 by its name" in refused(renamed)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"")
    assert "convert it first, with convert_hf_to_gguf.py" in refused(tmp_path / "checkpoint")
    renamed.unlink()
    assert refused(tmp_path / "*.gguf").count("\n") == 1


def test_a_dry_run_tells_what_is_then_written(both: Both, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.gguf"
    assert quantize.main(["--mixture=IQ2_M", "--dry-run", str(both.source)]) == 0
    assert "needs importance for" in capsys.readouterr().out
    assert quantize.main(["--mixture=Q4_K_M", "--dry-run", str(both.source), str(out)]) == 0
    text = capsys.readouterr().out
    assert not out.exists() and "output.weight: F16 -> Q6_K, 3072 -> 1260 bytes\n" in text
    assert quantize.main(["--mixture=Q4_K_M", "--quiet", str(both.source), str(out)]) == 0
    total = sum(t.nbytes or 0 for t in open_gguf(out).tensors)
    assert f"{out.stat().st_size} bytes, tensors of {total} bytes in place of" in text
    assert re.search(r"\nencoding takes about \d+\.\d s on two cores of .*; this machine has \d+\n$", text)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--tensor-type=attn_q"], "--tensor-type=attn_q is not REGEX=TYPE"),
        (["--tensor-type=attn_q=q9"], "nothing can be quantized to 'q9'"),
        (["--tensor-type=attn_q=q8_k"], "nothing can be quantized to 'q8_k'"),
        (["--tensor-type=(attn=q8_0"], "is no regular expression"),
        (["--tensor-type=(?i)a=q8_0"], "the release reads such a regular expression otherwise"),
        (["--output-tensor-type=i32"], "--output-tensor-type: nothing can be quantized to 'i32'"),
        (["--prune-layers=1,x"], "--prune-layers=1,x is no list of layers"),
        (["--override-kv=a=int"], "is not KEY=TYPE:VALUE"),
        (["--override-kv=a=int:x"], "is not KEY=TYPE:VALUE"),
        (["--override-kv=a=bool:1"], "is not KEY=TYPE:VALUE"),
        (["--override-kv=a=float:1e99"], "is not KEY=TYPE:VALUE"),
        ([f"--override-kv=a=str:{'x' * 128}"], "a text of more than 127 bytes"),
        (["--override-kv=general.alignment=int:64"], "cannot be overridden"),
        (["--include-weights=a", "--exclude-weights=b", "--imatrix=i.dat"], "do not go together"),
        (["--include-weights=a"], "choose from a matrix"),
        (["--output-tensor-type=iq2_xxs"], "does not write IQ2_XXS without importance, and there is none for output."),
        (["--tensor-type-file=none.txt"], "none.txt: No such file"),
        (["--target-size=1k"], "one of --hifi"),
    ],
)
def test_wrong_options(both: Both, flags: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(both.folder.iterdir())
    assert quantize.main(["--mixture=Q4_K_M", *flags, str(both.source), str(both.folder / "out.gguf")]) == 2
    err = capsys.readouterr().err
    assert wanted in err and err.count("\n") == 1 and sorted(both.folder.iterdir()) == before


def test_options_that_formats_do_not_have(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--type=Q4_K", "--pure"], ["--fork=Q4_K_HIFI", "--keep-split"], ["--hifi", "--prune-layers=0"]):
        assert quantize.main([*flags, str(both.source), str(both.folder / "out.gguf")]) == 2
        assert "goes with files as llama-quantize writes them: --mixture=NAME" in capsys.readouterr().err


def test_names_as_llama_quantize_takes_them(both: Both) -> None:
    out = both.folder / "out.gguf"
    for name, wanted in [("q4_k", "Q4_K_M"), ("15", "Q4_K_M"), ("Q3_K", "Q3_K_M"), ("copy", "COPY")]:
        assert quantize.main([f"--mixture={name}", "--quiet", str(both.source), str(out)]) == 0
        flag = "--copy" if wanted == "COPY" else f"--mixture={wanted}"
        assert quantize.main([flag, "--quiet", str(both.source), str(both.folder / "same.gguf")]) == 0
        assert out.read_bytes() == (both.folder / "same.gguf").read_bytes()


def test_which_file_types_there_are(both: Both) -> None:
    """Numbers that the release writes are those that are offered here; the others it calls invalid."""
    for number in range(64):
        answer = quantizer.quantize(both.source, both.folder / "theirs.gguf", number, only_copy=True)
        assert (number in file_types().values()) == (not answer.problem)
        assert not answer.problem or f"invalid output file type {number}" in answer.problem


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_a_copy_of_what_states_no_file_type(both: Both, kind: str) -> None:
    """The release guesses it from the types of most tensors."""
    model = families.described("gemma3")
    del model.keys["general.file_type"]
    source = families.written(model, both.folder / "untyped.gguf", kind)
    assert both.same("COPY", [], {"only_copy": True}, source)
    quantized = both.folder / "quantized.gguf"
    params = {"overrides": [("norm", 0), (".*", TYPES["Q5_K"][0])]}
    assert not quantizer.quantize(source, quantized, file_types()["Q5_K_S"], **params).problem
    content = rewrite.read(quantized)
    del content.metadata["general.file_type"]
    assert both.same("COPY", [], {"only_copy": True}, rewrite.write(both.folder / "q.gguf", content))


@pytest.mark.parametrize(
    ("name", "value", "file_type"),
    [
        ("blk.1.attn_norm.weight", np.nan, "Q8_0"),
        ("blk.1.attn_norm.weight", np.inf, "COPY"),
        ("blk.1.attn_q.weight", -np.inf, "Q4_K_M"),
        ("blk.1.attn_q.weight", np.nan, "F16"),
        ("blk.1.attn_q.weight", 1e30, "F16"),
        ("blk.1.attn_q.weight", -1e8, "Q8_0"),
        ("blk.1.attn_q.weight", 1e8, "Q4_0"),
        ("blk.1.attn_q.weight", 7e4, "F16"),
        ("blk.1.attn_q.weight", 7e4, "Q8_0"),
        ("blk.1.attn_q.weight", 1e30, "BF16"),
        ("blk.1.attn_q.weight", 65519.0, "F16"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, name: str, value: float, file_type: str) -> None:
    """What cannot be stored is refused by both, and what can be is the same."""
    both = Both(tmp_path, kind="F32")
    tensor = next(t for t in open_gguf(both.source).tensors if t.name == name)
    data = bytearray(both.source.read_bytes())
    data[tensor.start + 40 : tensor.start + 44] = np.float32(value).tobytes()
    both.source.write_bytes(data)
    assert both.same(file_type, [], {"only_copy": True} if file_type == "COPY" else {})


def test_types_that_end_the_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops by an assertion, or would: here it is a sentence."""
    both = Both(tmp_path, families.described("odd widths"))
    for flag in ("--token-embedding-type=Q4_K", "--output-tensor-type=Q6_K"):
        assert quantize.main(["--mixture=Q8_0", flag, str(both.source), str(tmp_path / "out.gguf")]) == 2
        assert "rows of 320 in " in capsys.readouterr().err and not (tmp_path / "out.gguf").exists()


def test_importance_in_its_newer_form(both: Both, tmp_path: Path) -> None:
    """A matrix in GGUF, as llama-imatrix writes it today."""
    given = families.importance(both.source, tmp_path / "i.dat")
    sources.write_imatrix(tmp_path / "i.gguf", given)
    read = read_imatrix(tmp_path / "i.gguf")
    keys = families.keys(tmp_path / "i.gguf", read.rows) | {"quantize.imatrix.chunks_count": 1}
    assert both.same("Q4_0", [f"--imatrix={tmp_path / 'i.gguf'}"], {"importance": read.rows, "keys": keys})
