"""What tools/findings.py runs: who is asked, how they are had, and each deviation with one vector that shows it."""

from __future__ import annotations

from typing import NamedTuple

FOLDER = "build/findings"
ADAPTERS = "docs/adapters"
GPT4ALL = "gpt4all/gpt4all/llmodel_DO_NOT_MODIFY/build/libllamamodel-mainline-kompute.so"
QEMU = "exec:qemu-aarch64 -L /usr/aarch64-linux-gnu build/field/ggml_driver build/field/linux-arm64"

YES, NO = "yes", "no"
ASSERTS = "https://github.com/ggml-org/llama.cpp/issues/6067"
FUSED = "https://github.com/ggml-org/llama.cpp/pull/8939"


class Subject(NamedTuple):
    """A release. had: commands that bring it. target: as conform takes it. environment: for that command."""

    name: str
    had: tuple[str, ...]
    target: str
    environment: tuple[tuple[str, str], ...] = ()


class Finding(NamedTuple):
    """A deviation: one cell, one vector. harm: YES or NO, and why. link: the thread upstream, where there is one."""

    subject: str
    cell: str
    id: str
    what: str
    harm: str
    why: str
    link: str = ""
    strict: bool = False


def of_pypi(folder: str, requirement: str) -> tuple[str, ...]:
    return (f"pip install --no-deps --target={FOLDER}/{folder} {requirement}",)


def path(*folders: str) -> tuple[tuple[str, str], ...]:
    return (("PYTHONPATH", ":".join([".", ADAPTERS, *folders])),)


FIELD = ("python -m tools.conformance",)
SUBJECTS = {
    "gguf-tools": Subject(
        "gguf-tools, commit 8fa6eb6 (9 January 2025)",
        (f"git clone https://github.com/antirez/gguf-tools {FOLDER}/gguf-tools",
         f"cd {FOLDER}/gguf-tools && git checkout 8fa6eb6",
         "cc -O3 -march=native -ffast-math -shared -fPIC -o libgguf_tools.so gguflib.c fp16.c"),
        "python:gguf_tools", (*path(), ("GGUF_TOOLS", f"{FOLDER}/gguf-tools/libgguf_tools.so")),
    ),
    "llama3pure, JavaScript": Subject(
        "llama3pure, its JavaScript engine, commit 2bec227 (9 May 2026)",
        (f"git clone https://github.com/lrusso/llama3pure {FOLDER}/llama3pure",
         f"git -C {FOLDER}/llama3pure checkout 2bec227"),
        f"exec:node {ADAPTERS}/llama3pure.mjs {FOLDER}/llama3pure/llama3pure-js-engine.js",
    ),
    "llama3pure, C": Subject(
        "llama3pure, its C engine, the same commit",
        (f"cc -O3 -shared -fPIC -I{FOLDER}/llama3pure -o {FOLDER}/libllama3pure.so {ADAPTERS}/llama3pure_c.c "
         "-lm -lpthread",),
        "python:llama3pure_c", (*path(), ("LLAMA3PURE", f"{FOLDER}/libllama3pure.so")),
    ),
    "MLX 0.31.0": Subject(
        "MLX 0.31.0, of PyPI",
        (f"pip install --no-deps --target={FOLDER}/mlx mlx==0.31.0 mlx-cpu==0.31.0",),
        "python:mlx_decode", path(f"{FOLDER}/mlx"),
    ),
    "MLX": Subject("MLX 0.32.4, of PyPI", FIELD, "python:mlx_decode", path("build/field/site")),
    "tinygrad": Subject(
        "tinygrad 0.14.0, of PyPI", FIELD, "python:tinygrad_decode", (*path("build/field/site"), ("DEV", "PYTHON")),
    ),
    "tinygrad, emulated": Subject(
        "tinygrad 0.14.0, of PyPI, where it emulates binary16", FIELD, "python:tinygrad_decode",
        (*path("build/field/site"), ("DEV", "PYTHON"), ("EMULATED_DTYPES", "half")),
    ),
    "libgguf, native": Subject(
        "libgguf 0.2.2, of PyPI, its native rows", of_pypi("libgguf", "libgguf==0.2.2"), "python:libgguf_native",
        path(f"{FOLDER}/libgguf"),
    ),
    "libgguf, NumPy": Subject(
        "libgguf 0.2.2, of PyPI, its NumPy lane", of_pypi("libgguf", "libgguf==0.2.2"), "python:libgguf_numpy_lane",
        path(f"{FOLDER}/libgguf"),
    ),
    "gguf-connector": Subject(
        "gguf-connector 3.7.3, of PyPI, its NumPy lane", of_pypi("gguf-connector", "gguf-connector==3.7.3"),
        "python:gguf_connector_quant", path(f"{FOLDER}/gguf-connector"),
    ),
    "gguf-py 0.17.1": Subject(
        "gguf 0.17.1, of PyPI", of_pypi("gguf-0.17.1", "gguf==0.17.1"), "gguf-py", path(f"{FOLDER}/gguf-0.17.1"),
    ),
    "gguf-py": Subject("gguf 0.19.0, of PyPI", (), "gguf-py"),
    "ggml-python": Subject("ggml-python 0.0.45, of PyPI", FIELD, "ggml:build/field/site/lib#base"),
    "gpt4all": Subject("gpt4all 2.8.2, of PyPI", FIELD, f"ggml:build/field/{GPT4ALL}#base"),
    "release": Subject("llama.cpp v0.5.0, as pinned, its AVX2 kernels", FIELD, "ggml:build/field/linux-x64#haswell"),
    "release, arm64": Subject("llama.cpp v0.5.0 for arm64, under qemu", FIELD, f"{QEMU} armv8.2_2"),
}  # fmt: skip

OWN_BYTES = "the blocks are sound, but not the release's"
FINDINGS = (
    Finding("gguf-tools", "Q4_K.decode", "87be75e31eaab713",
            "The second 32 weights of each 64 are decoded with scale and min of the first 32.",
            YES, "up to half of the weights of a Q4_K tensor are wrong wherever it is converted, compared or shown"),
    Finding("llama3pure, JavaScript", "IQ1_M.decode", "29f95a4d87643f38",
            "Type 29, which is IQ1_M, counts as BF16, beside 30, which is: such a tensor is not refused, but read as "
            "numbers of two bytes.",
            YES, "a model with IQ1_M tensors would be loaded as noise, and beyond their ends"),
    Finding("llama3pure, JavaScript", "Q8_0.encode", "c8108004c9d818a7",
            "The scale is cut to binary16, not rounded.",
            YES, "a little: activations and the cache of keys and values are up to 0.1 % too small"),
    Finding("llama3pure, C", "Q8_0.encode", "c8108004c9d818a7",
            "The scale is cut to binary16, not rounded.", YES, "the same, in every matrix product"),
    Finding("MLX 0.31.0", "Q4_1.decode", "c5f988a12387ae46",
            "The codes are read two bytes too early: the min counts as four codes, and the last four are lost.",
            YES, "the weights of Q4_1 tensors are wrong; 0.32.4 decodes them rightly",
            "https://github.com/ml-explore/mlx/pull/3664"),
    Finding("MLX", "Q4_0.decode", "2ab0af6c3b533e61",
            "d (q - 8) becomes d q + b with b = -8 d: zeros have the other sign, and where 8 d is no finite binary16 "
            "all weights are infinite or NaN.", NO, "no encoder writes such scales for weights of a model"),
    Finding("MLX", "Q8_0.decode", "f9c478abfe46c327",
            "d q becomes d (q + 128) + b with b = -128 d: zeros have the other sign, and where 128 d is no finite "
            "binary16 all weights are infinite or NaN.", NO, "no encoder writes such scales for weights of a model"),
    Finding("tinygrad", "MXFP4.decode", "dfe1489e43a8f70d",
            "Code 8 gives -0, where the table of ggml has 0.", NO, "a product with -0 is a zero as well"),
    Finding("tinygrad", "Q5_0.decode", "1af056d5e31d3865",
            "d q - 16 d in place of d (q - 16): zeros have the other sign.",
            NO, "for finite scales nothing else differs"),
    Finding("tinygrad, emulated", "Q6_K.decode", "a8b6566b1a48b3ab",
            "Subnormal binary16 numbers are taken for zero, and with d all 256 weights are zero. So it is where a back "
            "end has no binary16: Python before 3.12, and by its source LLVM outside macOS and OpenCL without "
            "cl_khr_fp16.",
            YES, "a block of Q6_K whose weights are all below 0.25 has such a d",
            "https://github.com/tinygrad/tinygrad/pull/14744"),
    Finding("libgguf, native", "IQ1_M.encode", "136a6aaa73b1c2a9",
            "Weights near the largest binary32 make its sums infinite, so that no point of the grid is the best. It "
            "goes on all the same: row numbers are arbitrary, and the process may end by a segmentation fault, as it "
            "did in a run over all vectors.",
            YES, "only where a checkpoint has such weights; there llama.cpp of that day ends by an assertion", ASSERTS),
    Finding("libgguf, NumPy", "Q2_K.encode", "3d12e35e92422c3a",
            "Subnormal weights end in an OverflowError: -67108864 is put into a byte.",
            YES, "a tensor with such a block cannot be encoded"),
    Finding("libgguf, NumPy", "Q4_K.encode", "7a9efa056e84c4e3",
            "Subnormal weights end in an OverflowError: -4194304 is put into a byte.",
            YES, "a tensor with such a block cannot be encoded"),
    Finding("libgguf, NumPy", "Q5_K.encode", "c6b7348795760cf8",
            "Subnormal weights end in an OverflowError: -4194304 is put into a byte.",
            YES, "a tensor with such a block cannot be encoded"),
    Finding("libgguf, NumPy", "IQ1_M.encode", "136a6aaa73b1c2a9",
            "Weights near the largest binary32 end in an OverflowError.",
            YES, "only where a checkpoint has such weights"),
    Finding("libgguf, NumPy", "Q1_0.encode", "b9e3908237027342",
            "The mean is added up in pairs, as NumPy does, not first to last.", NO, OWN_BYTES),
    Finding("libgguf, NumPy", "IQ2_S.encode", "f18d1ff405998ab2",
            "Another row of the grid is chosen, as where sums are added in another order.", NO, OWN_BYTES),
    Finding("libgguf, NumPy", "IQ3_S.encode", "3138e215e2333232",
            "The places of sub-blocks of zeros stay empty; the release fills them with the row numbers that follow.",
            NO, "what looks like an oversight of the release is not repeated; the bytes are not the release's"),
    Finding("gguf-connector", "Q4_0.encode", "fb89aa9f68a7f3f4",
            "x / d + 8.5 is rounded once, as with a fused multiply-add.", NO, OWN_BYTES, FUSED),
    Finding("gguf-connector", "Q5_0.encode", "d24d3323a21c1c40",
            "x / d + 16.5 is rounded once, as with a fused multiply-add.", NO, OWN_BYTES, FUSED),
    Finding("gguf-py 0.17.1", "Q4_0.encode", "fb89aa9f68a7f3f4",
            "x / d + 8.5 is rounded once, on purpose, as builds with fused multiply-adds do; 0.18.0 rounds twice.",
            NO, OWN_BYTES, FUSED),
    Finding("gguf-py 0.17.1", "Q5_0.encode", "d24d3323a21c1c40",
            "x / d + 16.5 is rounded once, as with a fused multiply-add.", NO, OWN_BYTES, FUSED),
    Finding("gguf-py", "Q4_0.encode", "2c65faa7fe6a7301",
            "The scale of a block of zeros is +0, where the release writes -0.",
            NO, "all weights are zeros", strict=True),
    Finding("ggml-python", "Q5_0.dot", "cdf3022ff4669c5a",
            "The generic kernel takes the codes -16 to 15 for unsigned bytes.",
            YES, "on machines without a SIMD kernel; with AVX2 the sums are right"),
    Finding("ggml-python", "IQ1_M.encode", "136a6aaa73b1c2a9",
            "Weights near the largest binary32 end the process by an assertion.",
            YES, "only where a checkpoint has such weights", ASSERTS),
    Finding("gpt4all", "BF16.encode", "de55116cc8c5ff2f", "Subnormal weights become zeros.",
            NO, "of so small weights nothing is seen; the bytes are not the model's",
            "https://github.com/ggml-org/llama.cpp/pull/7843"),
    Finding("gpt4all", "IQ1_S.encode", "1b44ce292fb12e20",
            "Weights near the largest binary32 end the process by an assertion.",
            YES, "only where a checkpoint has such weights", ASSERTS),
    Finding("gpt4all", "IQ2_XXS.encode", "27e400d37b35a29c",
            "Weights near the largest binary32 end the process by an assertion.",
            YES, "only where a checkpoint has such weights", ASSERTS),
    Finding("gpt4all", "Q4_1.encode", "5abc9ff9a583ed4c",
            "The build fuses multiply-adds: (x - min) / d + 0.5 is rounded once.", NO, OWN_BYTES, FUSED),
    Finding("gpt4all", "Q5_1.encode", "dacfdfb106804bfc",
            "The build fuses multiply-adds: (x - min) / d + 0.5 is rounded once.", NO, OWN_BYTES, FUSED),
    Finding("release", "Q4_0.dot", "394f9d1d99aa1731",
            "An activation of -128 has the wrong sign: in 8 bits it has no negative.",
            NO, "no encoder writes it; other tools' activations may", strict=True),
    Finding("release", "Q8_0.encode", "859fd5f7e4ff7e58",
            "Rows of a running model: halves go to the even code.",
            NO, "files are written by the reference, which rounds away from zero", strict=True),
    Finding("release", "IQ4_NL.encode", "6c99ba4c7fbcb892",
            "Rows of a running model: one scale is tried, and not sixteen.",
            NO, "two encoders by intention; files are written by the other", strict=True),
    Finding("release, arm64", "F16.dot", "72c0a0b51621a482",
            "Sums are kept in binary16.",
            YES, "a little: this sum is off by 0.06 %, 66 times what any order of binary32 additions can be off",
            strict=True),
)  # fmt: skip
