"""`python -m tools.conformance` judges the field and writes docs/conformance.md.

What is judged is fetched into build/field, through npm and pip; the release for arm64 also needs qemu-aarch64 and
aarch64-linux-gnu-gcc (Debian: qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross
libgomp1-arm64-cross). What cannot be had is named in the document as not judged, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hifi_ref
from hifi_ref.conform.command import Run, conform
from hifi_ref.conform.report import Report, Subject
from hifi_ref.conform.report_markdown import deviations, matrix_lines
from hifi_ref.conform.targets import machine
from hifi_ref.model_files.files import write_atomically
from reference import fetch

ROOT = Path(__file__).resolve().parent.parent
# Relative, since the document tells the commands; git ignores it.
FIELD = Path("build/field")
ARM64 = "@node-llama-cpp/linux-arm64@3.22.1"
QEMU = "qemu-aarch64 -L /usr/aarch64-linux-gnu"


class Judged(NamedTuple):
    """One section: its title, who that is, how it is fetched, what is judged, and in which environment."""

    title: str
    about: str
    fetch: Callable[[], object]
    target: str
    level: int = 1
    operations: tuple[str, ...] = ("decode", "encode", "dot")
    environment: tuple[tuple[str, str], ...] = ()


def run(*words: str) -> None:
    """Raises RuntimeError with the last line that the command said."""
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError(f"{words[0]} is not installed") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip() or "it failed").splitlines()[-1])


def link_release() -> None:
    link = FIELD / "linux-x64"
    if not link.exists():
        link.symlink_to(fetch.library_dir())


def fetch_arm64() -> None:
    if not (FIELD / "linux-arm64").is_dir():
        run("npm", "pack", ARM64, f"--pack-destination={FIELD}")
        with tarfile.open(next(FIELD.glob("node-llama-cpp-linux-arm64-*.tgz"))) as archive:
            archive.extractall(FIELD / "unpacked", filter="data")
        (FIELD / "unpacked" / "package" / "bins" / "linux-arm64").rename(FIELD / "linux-arm64")
    source = "docs/adapters/ggml_driver.c"
    run("aarch64-linux-gnu-gcc", "-O2", "-o", str(FIELD / "ggml_driver"), source, "-ldl")
    run(*QEMU.split(), str(FIELD / "ggml_driver"), str(FIELD / "linux-arm64"), "base")


def package(*names: str) -> Callable[[], None]:
    """Packages of PyPI, into a folder of their own."""

    def fetch() -> None:
        if not (FIELD / "site" / names[0].partition("[")[0].replace("-", "_")).exists():
            run(sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", f"--target={FIELD / 'site'}", *names)

    return fetch


def wheel(name: str) -> Callable[[], None]:
    """A package of PyPI, unpacked and not installed."""

    def fetch() -> None:
        if not (FIELD / name).is_dir():
            words = ("download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={FIELD}", name)
            run(sys.executable, "-m", "pip", *words)
            with zipfile.ZipFile(next(FIELD.glob(f"{name}-*.whl"))) as archive:
                archive.extractall(FIELD / name)

    return fetch


ADAPTERS = (("PYTHONPATH", os.pathsep.join([".", "docs/adapters", str(FIELD / "site")])),)
RELEASE = "llama.cpp v0.5.0, `@node-llama-cpp/linux-x64` 3.22.1"
GPT4ALL = "gpt4all/gpt4all/llmodel_DO_NOT_MODIFY/build/libllamamodel-mainline-kompute.so"
ARM64_PARTS = ("armv8.0_1", "armv8.2_2", "armv8.6_1")
JUDGED = (
    Judged("The pinned release", f"{RELEASE}: libggml-base and the generic dot products of libggml-cpu-x64. Level 2.",
           link_release, f"ggml:{FIELD}/linux-x64#base", level=2),
    Judged("The release's CPU variants", f"{RELEASE}: the kernels and row quantizers of each libggml-cpu.",
           link_release, f"ggml:{FIELD}/linux-x64"),
    Judged("The release for arm64", f"llama.cpp v0.5.0, `{ARM64}`, under qemu-user: libggml-base, generic dots.",
           fetch_arm64, f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 base armv8.0_1"),
    *(Judged(f"The release for arm64: {part}", f"llama.cpp v0.5.0, `{ARM64}`, under qemu-user: its kernels.",
             fetch_arm64, f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 {part}") for part in ARM64_PARTS),
    Judged("gguf-py", "The gguf package of PyPI.", lambda: None, "gguf-py"),
    Judged("ggml-python", "ggml-python of PyPI, with ggml 0.15.3.", package("ggml-python"), f"ggml:{FIELD}/site/lib"),
    Judged("xllamacpp", "xllamacpp of PyPI: llama.cpp in one extension module.", wheel("xllamacpp"),
           f"ggml:{FIELD}/xllamacpp/xllamacpp/xllamacpp.abi3.so"),
    Judged("gpt4all", "gpt4all of PyPI: a llama.cpp of 2024 in one library.", wheel("gpt4all"),
           f"ggml:{FIELD}/{GPT4ALL}"),
    Judged("tinygrad", "tinygrad of PyPI: its GGUF decoder, on its device in plain Python.", package("tinygrad"),
           "python:tinygrad_decode", operations=("decode",), environment=(*ADAPTERS, ("DEV", "PYTHON"))),
    Judged("MLX", "mlx of PyPI, on a CPU: its GGUF loader.", package("mlx[cpu]"), "python:mlx_decode",
           operations=("decode",), environment=ADAPTERS),
)  # fmt: skip

EXPLAINED = """\
## What the deviations are

- **Activations of -128.** No encoder writes this code, and the release's reference computes with it rightly. The AVX2
  kernels multiply magnitudes by activations that take the weights' signs; in 8 bits -128 has no negative. So a dot
  product with such an activation has the wrong sign in that term. It shows only for activations that another tool
  encoded.
- **Q8_0 and Q8_1, ties.** `quantize_row_q8_0_ref` rounds halves away from zero, as C's `roundf`. The SIMD versions of
  `quantize_row_q8_0` and `quantize_row_q8_1` round to the nearest even code. Weights exactly between two codes get
  another one; a file never shows it, since files are written by the reference, but activations do.
- **IQ4_NL rows.** `quantize_row_iq4_nl`, which encodes rows while a model runs, tries no scales beside the first;
  `ggml_quantize_chunk`, which writes files, tries fifteen more. These are two encoders of one format, by intention.
- **Other choices of a search.** Builds for arm64, and those with FMA, fuse multiply-adds. Sums of squared errors then
  differ in their last bits, and where two scales are nearly as good, the other one wins. Decoded, such blocks are as
  close to the weights. The vectors are of the strict profile, in which every operation rounds once.
- **MXFP4, one exponent below all.** The encoder takes log2f of the largest magnitude, and at a power of two the C
  libraries of the two platforms differ in the last bit. The exponent is then one lower: -1, whose low byte is 255.
- **gguf-py, Q4_0 of zeros.** Where all 32 weights are zero and the first is +0, the reference's scale is 0 / -8 = -0,
  gguf-py's is +0. Decoded they are zeros of either sign.
- **F16 on arm64, armv8.2_2.** This kernel adds in binary16, and lies outside what any order of binary32 additions can
  give.
- **ggml-python, Q5_0.** The generic kernel of this build takes the codes, -16 to 15, for unsigned bytes: a single code
  of -16 times 1 gives 240. The same library's SIMD kernel gives -16.
- **ggml-python and gpt4all, formats that are newer than they.** Their encoders end the process for types that they do
  not know, which counts as wrong here.
- **gpt4all, BF16.** Subnormal weights become zero, as in the llama.cpp of its day.
- **tinygrad, MXFP4 and Q5_0.** Code 8 of MXFP4 gives -0; in ggml's table it is 0. Q5_0 is decoded as d * q - 16 * d,
  which has zeros of the other sign, and differs where a product is not finite.
- **MLX, Q4_0 and Q8_0.** The loader turns d * (q - 8) into d * q + b with b = -8 d, kept as a binary16. So zeros come
  with the other sign, and scales whose multiple by 8 (by 128 for Q8_0) is no finite binary16 give infinities or NaN.

## Not judged

- llama-cpp-python: PyPI has its source only, not a build.
- transformers decodes GGUF files with gguf-py, which is judged above.
- @huggingface/gguf of npm reads metadata and does not decode blocks.
- ctransformers of PyPI: its libraries export the encoders of 2023 with other arguments, and no decoders.
- diffusers and vLLM of PyPI decode on PyTorch, which was too large to install here.
- candle, mistral.rs and burn are Rust crates: `exec:` judges them once a program around them speaks the line protocol.
"""


def judge(one: Judged) -> Report | str:
    """The report, or why there is none."""
    print(f"{one.title} ...", file=sys.stderr, flush=True)
    before = dict(os.environ)
    try:
        one.fetch()
        os.environ.update(dict(one.environment))
        return conform(Run(one.target, operations=one.operations, level=one.level, timeout=300))
    except (RuntimeError, OSError) as error:
        return f"{error}"
    finally:
        os.environ.clear()
        os.environ.update(before)


def section(one: Judged, report: Report | str) -> list[str]:
    lines = ["", f"## {one.title}", "", one.about]
    if isinstance(report, str):
        return [*lines, "", f"Not judged: {report}"]
    if len(report.subjects) == 1:
        lines += ["", *_subject(report.subjects[0])]
    else:
        lines += merged([(subject.target.rpartition("#")[2], _subject(subject)) for subject in report.subjects])
    cannot = [target.rpartition("#")[2] for target in report.not_judged]
    return [*lines, *(["", f"This processor cannot run, so not judged: {', '.join(cannot)}."] if cannot else [])]


def merged(parts: list[tuple[str, list[str]]]) -> list[str]:
    """Parts of one folder, those together of which the same is to be said: the first one's commands stand for all."""
    alike: dict[str, list[tuple[str, list[str]]]] = {}
    for name, lines in parts:
        text = "\n".join(line for line in lines if " sha256 " not in line)
        alike.setdefault(text.replace(f"#{name}", "#"), []).append((name, lines))
    text = []
    for group in alike.values():
        libraries = [line for _, lines in group for line in lines if " sha256 " in line]
        rest = [line for line in group[0][1] if " sha256 " not in line]
        text += ["", f"### {', '.join(name for name, _ in group)}", "", *rest[:2], *dict.fromkeys(libraries), *rest[2:]]
    return text


def _subject(subject: Subject) -> list[str]:
    if subject.fault is not None:
        return [f"Not judged: {subject.fault}"]
    lines = [f"**{'Conforms' if subject.conforms else 'Does not conform'}.** `{subject.target}`", ""]
    lines += [f"`{library['file']}` sha256 `{library['sha256']}`  " for library in subject.libraries]
    lines += ["", "<details><summary>All cells</summary>", "", *matrix_lines(subject), "", "</details>"]
    return [*lines, *deviations(subject)]


def summary(reports: list[tuple[Judged, Report | str]]) -> list[str]:
    lines = ["| judged | cells | conform | do not |", "|---|---|---|---|"]
    for one, report in reports:
        if isinstance(report, str):
            lines.append(f"| {one.title} | not judged | | |")
            continue
        for subject in report.subjects:
            part = f", {subject.target.rpartition('#')[2]}" if len(report.subjects) > 1 else ""
            bad = [cell.name for cell in subject.offered if cell.verdict == "does not conform"]
            good = len(subject.offered) - len(bad)
            names = ", ".join(f"`{name}`" for name in bad)
            lines.append(f"| {one.title}{part} | {len(subject.offered)} | {good} | {names} |")
    return lines


def document(reports: list[tuple[Judged, Report | str]]) -> str:
    cases = [report.vectors["cases"] for _, report in reports if isinstance(report, Report) and report.level == 1]
    here = ", ".join(machine().values())
    lines = [
        "# Who conforms", "",
        "Implementations of the block formats, judged by `python -m hifi_ref.conform` ([how to use it]"
        "(using-conform.md)). A cell is one operation of one format. Where the bits of a dot product are not those of "
        "the generic kernel, the proven bound on every order of additions decides; the cells tell which.", "",
        f"hifi_ref {hifi_ref.__version__}, {max(cases, default=0)} golden vectors; {here}. Written by "
        "`python -m tools.conformance`.", "",
        *summary(reports), "", EXPLAINED.rstrip(),
    ]  # fmt: skip
    for one, report in reports:
        lines += section(one, report)
    return "\n".join(lines) + "\n"


def main(titles: list[str]) -> None:
    """Judge all, or those whose titles hold one of these words and print them."""
    os.chdir(ROOT)
    FIELD.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in JUDGED if not titles or any(word in one.title for word in titles)]
    text = document([(one, judge(one)) for one in chosen])
    shutil.rmtree(FIELD / "unpacked", ignore_errors=True)
    if titles:
        print(text, end="")
    else:
        write_atomically(ROOT / "docs" / "conformance.md", text)


if __name__ == "__main__":
    main(sys.argv[1:])
