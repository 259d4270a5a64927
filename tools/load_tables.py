"""Derive hifi_ref/loading/tables from the C++ source of llama.cpp: `python tools/load_tables.py SRC [--check]`.

SRC is the folder src of llama.cpp, as the source distribution of llama-cpp-python on PyPI holds it in vendor/llama.cpp;
0.3.36 is the one nearest to release v0.5.0. Every name that is taken is looked up in the release's own library as well,
and left out where the library lacks it. --check says whether the tables would change, without writing them.

Written are the architectures (LLM_ARCH_NAMES of llama-arch.cpp), the tokenizers and pre-tokenizers
(llama_vocab::impl::load of llama-vocab.cpp), the keys that every architecture reads (llama_model_base::load_hparams of
llama-model.cpp), and for each family the keys and tensors of its load_arch_hparams and load_arch_tensors in models/.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from reference.fetch import library_dir

TABLES = Path(__file__).resolve().parent.parent / "hifi_ref" / "loading" / "tables"
FAMILIES = ("bert", "gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3", "qwen3moe")
KINDS = {"uint32_t": "u32", "float": "f32", "bool": "bool", "llama_pooling_type": "u32"}
GET = r"ml\.(get_key|get_key_or_arr|get_arr|get_arr_n)\((LLM_KV_\w+),\s*([\w.]+)(.*?)\)"
LOCALS = {"rope_scaling": "string", "rope_finetuned": "bool", "ropescale": "f32", "n_vocab": "u32", "name": "string"}
ARRAYS = {"classifier_labels": "strings", "n_vocab": "any[]"}
READ_IF = {"hparams.n_head() > 0": "if n_head", "found_swa && hparams.n_swa > 0": "if n_swa"}
# Read by the source at hand, and not by the release: what tests/loading/battery.py showed.
LATER = {"pooling_type_cls"}
# Conditions of the source, in the words of the tables.
CONDITIONS = {
    "n_expert == 0": "dense",
    "hparams.n_ff_shexp > 0": "n_ff_shexp",
    "hparams.rope_scaling_type_train == LLAMA_ROPE_SCALING_TYPE_LONGROPE": "longrope",
}
OPPOSITE = {"dense": "experts", "longrope": "not-longrope"}
# Conditions under which nothing is created, or what is created stands elsewhere in the table.
ELSEWHERE = "(elsewhere)"
QKV = r"create_tensor_qkv\(layer, i, (.*)\);"
CREATE = r'create_tensor\(tn\((LLM_TENSOR_\w+),\s*"(\w+)"(?:,\s*\w+)?\),\s*\{(.*?)\},\s*(.*)\);'
SPOKEN_FOR = {"output == NULL", "n_token_types == 0", "n_expert_used == 0"}


def names(source: str, table: str) -> dict[str, str]:
    """The entries `{ SYMBOL, "name" }` of one map of llama-arch.cpp."""
    body = re.search(rf"{table} = \{{(.*?)\n\}};", source, re.S)[1]
    return dict(re.findall(r'\{\s*(LLM_\w+),\s*"([^"]+)"\s*\}', body))


def function(source: str, name: str) -> str:
    return re.search(rf"^\S.*\b{re.escape(name)}\(.*?\{{\n(.*?)^\}}", source, re.S | re.M)[1]


def fields(header: str) -> dict[str, str]:
    """The kind that each hyper-parameter of llama-hparams.h is read as."""
    one = re.findall(r"^\s*(?:enum )?(\w+)\s+(\w+)\s*(?:=[^;]*)?;", header, re.M)
    many = re.findall(r"^\s*std::array<(\w+), LLAMA_MAX_LAYERS>\s+(\w+);", header, re.M)
    return {name: KINDS[kind] for kind, name in one + many if kind in KINDS}


def keys(body: str, kv: dict[str, str], kinds: dict[str, str]) -> list[str]:
    """A line for each key that is read: key, kind, whether it is needed, its name in the release, and when."""
    # What one architecture alone reads stands in a block of its own.
    body = re.sub(r"if \(arch == LLM_ARCH_WAVTOKENIZER_DEC\) \{.*?\n    \}", "", body, flags=re.S)
    lines, conditions = [], []
    for line in body.splitlines():
        if found := re.search(r"load_swa_pattern\(ml, (\d+)\)", line):
            window = kv["LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN"].replace("%s", "{arch}")
            lines.append(_key(window, f"pattern:{found[1]}", "optional", "is_swa", conditions))
        last = ""
        for how, symbol, target, rest in re.findall(GET, line):
            if target.removeprefix("hparams.") in LATER:
                continue
            key, field = kv[symbol].replace("%s", "{arch}"), target.removeprefix("hparams.")
            kind = ARRAYS.get(field) if how in ("get_arr", "get_arr_n") else LOCALS.get(field) or kinds[field]
            kind += f"|{kind}[]" if how == "get_key_or_arr" else ""
            need = "optional" if "false" in rest else "required"
            lines.append(_key(key, kind, need, field, [*conditions, last and f"unless {last}"]))
            last = key
        if re.match(r"\} else", line.strip()):
            conditions[-1] = ""
        elif line.strip().startswith("if (") and line.endswith("{"):
            conditions.append(READ_IF.get(line.strip()[4:-3]) or (f"unless {last}" if "!ml.get_key" in line else ""))
        elif line.strip().endswith("{"):
            conditions.append("")
        elif line.strip() == "}":
            conditions.pop()
    return lines


def _key(key: str, kind: str, need: str, field: str, conditions: list[str]) -> str:
    return " ".join([f"{key:<48} {kind:<12} {need:<9} {field}", *filter(None, conditions)])


def tensors(body: str, tn: dict[str, str]) -> list[str]:
    """A line for each tensor: name, shape (row length first), whether and when it is needed."""
    lines: list[str] = []
    conditions: list[str] = []
    closed = ""
    for line in map(str.strip, body.splitlines()):
        if line.startswith(("} else", "else {")):
            last = conditions.pop() if line.startswith("}") else closed
            conditions.append(OPPOSITE.get(last, last))
        elif line.endswith("{"):
            found = re.match(r"if \((.*)\) \{", line)
            conditions.append(_condition(found[1]) if found else "")
        elif line == "}":
            closed = conditions.pop()
        when = [f"if {c}" for c in conditions if c and c != ELSEWHERE]
        if found := re.search(QKV, line):
            sizes = " ".join(_size(part) for part in found[1].split(", ")[:4])
            need = "optional" if "TENSOR_NOT_REQUIRED" in line else ""
            lines.append(_tensor("blk.*.attn_qkv", sizes, "query-key-value", need, *when))
        elif (found := re.search(CREATE, line)) and ELSEWHERE not in conditions:
            symbol, suffix, shape, flags = found.groups()
            need = "optional" if "TENSOR_NOT_REQUIRED" in flags else "again" if "TENSOR_DUPLICATED" in flags else ""
            sizes = " ".join(_size(part) for part in shape.split(","))
            lines.append(_tensor(f"{tn[symbol].replace('%d', '*')}.{suffix}", sizes, need, *when))
    return lines


def _tensor(name: str, sizes: str, *words: str) -> str:
    return " ".join(filter(None, [f"{name:<34} {sizes:<34}", *words])).rstrip()


def _condition(text: str) -> str:
    if text in SPOKEN_FOR:
        return ELSEWHERE
    return CONDITIONS[text]


def _size(text: str) -> str:
    """A dimension as the tables write it: factors, and a divisor, of the release's own names."""
    return text.replace("hparams.", "").replace(" ", "")


def library() -> bytes:
    """libllama: each string in it ends with a NUL, and may be the end of another that the linker joined it with."""
    return next(library_dir().glob("libllama.v*.so")).read_bytes()


def tables(src: Path) -> dict[str, str]:
    """File name -> text of every table."""
    arch, vocab = (src / "llama-arch.cpp").read_text(), (src / "llama-vocab.cpp").read_text()
    kinds = fields((src / "llama-hparams.h").read_text())
    kv, tn = names(arch, "LLM_KV_NAMES"), names(arch, "LLM_TENSOR_NAMES")
    held = library()

    def known(found: list[str]) -> list[str]:
        return [name for name in found if name.encode() + b"\0" in held]

    every = sorted(set(names(arch, "LLM_ARCH_NAMES").values()) - {"(unknown)"})
    load = function(vocab, "llama_vocab::impl::load")
    models = re.findall(r'tokenizer_model == "([^"]+)"', load)
    pre = re.findall(r'tokenizer_pre == "([^"]+)"', load)
    common = function((src / "llama-model.cpp").read_text(), "llama_model_base::load_hparams")
    out = {
        "architectures.txt": _text(
            "Every architecture that the release knows: LLM_ARCH_NAMES of llama-arch.cpp.", known(every)
        ),
        "tokenizers.txt": _text(
            "tokenizer.ggml.model, and for gpt2 tokenizer.ggml.pre: llama_vocab::impl::load of llama-vocab.cpp.",
            [f"model {name}" for name in known(sorted(set(models)))]
            + [f"pre {name}" for name in known(sorted(set(pre)))],
        ),
        "keys.txt": _text(
            "Keys that every architecture reads: llama_model_base::load_hparams of llama-model.cpp.",
            keys(common, kv, kinds),
        ),
    }
    for family in FAMILIES:
        source = (src / "models" / f"{family}.cpp").read_text()
        read = keys(function(source, f"llama_model_{family}::load_arch_hparams"), kv, kinds)
        made = tensors(function(source, f"llama_model_{family}::load_arch_tensors"), tn)
        title = f"{family}: load_arch_hparams and load_arch_tensors of models/{family}.cpp."
        out[f"{family}.txt"] = _text(title, [f"key {line}" for line in read] + [f"tensor {line}" for line in made])
    return out


def _text(title: str, lines: list[str]) -> str:
    head = f"# {title}\n# llama.cpp v0.5.0. Written by tools/load_tables.py.\n"
    return head + "".join(line.rstrip() + "\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    changed = []
    for name, text in tables(options.src).items():
        path = TABLES / name
        if not path.exists() or path.read_text() != text:
            changed.append(name)
            if not options.check:
                path.write_text(text)
    print(f"changed: {', '.join(changed) or 'none'}")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
