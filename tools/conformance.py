"""`python -m tools.conformance` judges the field and writes docs/conformance.md and the pages in docs/conformance/.

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
from hifi_ref.conform.report import Report
from hifi_ref.conform.targets import machine
from reference import fetch
from tools.conformance_pages import Missing, Page, page_text, pages_of, write

ROOT = Path(__file__).resolve().parent.parent
# Relative, since the document tells the commands; git ignores it.
FIELD = Path("build/field")
ARM64 = "@node-llama-cpp/linux-arm64@3.22.1"
QEMU = "qemu-aarch64 -L /usr/aarch64-linux-gnu"


class Judged(NamedTuple):
    """One to judge: the name of its pages, its title, who that is, how it is fetched, the target, the environment."""

    file: str
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


def tinygrad() -> None:
    if sys.version_info < (3, 12):
        raise RuntimeError("before Python 3.12 its device in plain Python emulates binary16: judged below")
    package("tinygrad")()


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
    Judged("release", "The pinned release",
           f"{RELEASE}: libggml-base and the generic dot products of libggml-cpu-x64. Level 2.",
           link_release, f"ggml:{FIELD}/linux-x64#base", level=2),
    Judged("release-cpu", "The release's CPU variants",
           f"{RELEASE}: the kernels and row quantizers of each libggml-cpu.",
           link_release, f"ggml:{FIELD}/linux-x64"),
    Judged("release-arm64", "The release for arm64",
           f"llama.cpp v0.5.0, `{ARM64}`, under qemu-user: libggml-base, generic dots.",
           fetch_arm64, f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 base armv8.0_1"),
    *(Judged(f"release-arm64-{part}", f"The release for arm64: {part}",
             f"llama.cpp v0.5.0, `{ARM64}`, under qemu-user: its kernels.",
             fetch_arm64, f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 {part}") for part in ARM64_PARTS),
    Judged("gguf-py", "gguf-py", "The gguf package of PyPI.", lambda: None, "gguf-py"),
    Judged("ggml-python", "ggml-python", "ggml-python of PyPI, with ggml 0.15.3.", package("ggml-python"),
           f"ggml:{FIELD}/site/lib"),
    Judged("xllamacpp", "xllamacpp", "xllamacpp of PyPI: llama.cpp in one extension module.", wheel("xllamacpp"),
           f"ggml:{FIELD}/xllamacpp/xllamacpp/xllamacpp.abi3.so"),
    Judged("gpt4all", "gpt4all", "gpt4all of PyPI: a llama.cpp of 2024 in one library.", wheel("gpt4all"),
           f"ggml:{FIELD}/{GPT4ALL}"),
    Judged("tinygrad", "tinygrad", "tinygrad of PyPI: its GGUF decoder, on its device in plain Python.",
           tinygrad, "python:tinygrad_decode", operations=("decode",), environment=(*ADAPTERS, ("DEV", "PYTHON"))),
    Judged("tinygrad-emulated", "tinygrad, binary16 emulated",
           "tinygrad of PyPI: the same, as on devices without binary16 (EMULATED_DTYPES=half).",
           package("tinygrad"), "python:tinygrad_decode", operations=("decode",),
           environment=(*ADAPTERS, ("DEV", "PYTHON"), ("EMULATED_DTYPES", "half"))),
    Judged("mlx", "MLX", "mlx of PyPI, on a CPU: its GGUF loader.", package("mlx[cpu]"), "python:mlx_decode",
           operations=("decode",), environment=ADAPTERS),
)  # fmt: skip

NOT_JUDGED = (
    Missing("llama-cpp-python", "PyPI has its source only, not a build"),
    Missing("transformers", "decodes GGUF files with gguf-py, which is judged above"),
    Missing("@huggingface/gguf of npm", "reads metadata and does not decode blocks"),
    Missing("ctransformers of PyPI", "its libraries export the encoders of 2023 with other arguments, and no decoders"),
    Missing("diffusers and vLLM of PyPI", "decode on PyTorch, which was too large to install here"),
    Missing("candle, mistral.rs, burn", "`exec:` judges a crate once a program around it speaks the line protocol"),
)


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


def heading(reports: list[Report]) -> str:
    """What stands above the table: what was compared, by which version, on which machine."""
    cases = max((report.vectors["cases"] for report in reports if report.level == 1), default=0)
    return f"""\
# Who conforms

Implementations of the block formats, judged by `python -m hifi_ref.conform` ([how to use it](using-conform.md)). A cell
is one operation of one format. Where the bits of a dot product are not those of the generic kernel, the proven bound on
every order of additions decides; the cells tell which. What the deviations are: [deviations.md](deviations.md).

hifi_ref {hifi_ref.__version__}, {cases} golden vectors; {", ".join(machine().values())}. Written by
`python -m tools.conformance`."""


def main(titles: list[str]) -> None:
    """Judge all, or those whose titles hold one of these words: the former are written, the latter printed."""
    os.chdir(ROOT)
    FIELD.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in JUDGED if not titles or any(word in one.title for word in titles)]
    reports = [(one, judge(one)) for one in chosen]
    shutil.rmtree(FIELD / "unpacked", ignore_errors=True)
    found = [page for one, report in reports for page in pages_of(one.file, one.title, one.about, report)]
    if titles:
        print("\n".join(page_text(page) if isinstance(page, Page) else f"{page.title}: {page.why}" for page in found))
    else:
        top = heading([report for _, report in reports if isinstance(report, Report)])
        write(ROOT / "docs", top, found, NOT_JUDGED)


if __name__ == "__main__":
    main(sys.argv[1:])
