"""`python -m tools.built_here [FLAG ...]` builds llama.cpp of September 2024 as by hand, and says where.

The source is that in llama-cpp-python 0.3.1 of PyPI, the last one there whose encoders are compiled with fused
multiply-adds. It is built by its own CMake, in release mode, with GCC 11 and the flags given to its C compiler, by
default those of the profile gcc-x86-fma-intel; Debian: gcc-11 cmake g++.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

from tools.conformance import ROOT, run

SOURCE = "llama_cpp_python-0.3.1"
PINNED = "llama-cpp-python==0.3.1 --hash=sha256:75ec8374960b6353c254e55a48e7c7783abf6bcb9178ba0f655490738e5a9004\n"
FOLDER = Path("build/built")
INTEL = ("-march=haswell",)
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_COMPILER=gcc-11", "-DBUILD_SHARED_LIBS=ON", "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF", "-DGGML_LLAMAFILE=OFF", "-DGGML_CCACHE=OFF",
)  # fmt: skip


def fetch() -> Path:
    """The source of llama.cpp. Raises RuntimeError."""
    if not (FOLDER / SOURCE).is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        wanted = FOLDER / "wanted.txt"
        wanted.write_text(PINNED)
        run(
            sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:", f"--requirement={wanted}",
            f"--dest={FOLDER}",
        )  # fmt: skip
        with tarfile.open(FOLDER / f"{SOURCE}.tar.gz") as archive:
            archive.extractall(FOLDER / "unpacked", filter="data")
        (FOLDER / "unpacked" / SOURCE).rename(FOLDER / SOURCE)
    return FOLDER / SOURCE / "vendor" / "llama.cpp"


def built(flags: tuple[str, ...] = INTEL) -> Path:
    """The folder with libggml.so and libllama.so, compiled with these flags. Raises RuntimeError."""
    folder = ROOT / FOLDER / "_".join(("gcc-11", *(flag.strip("-") for flag in flags)))
    if not (folder / "libllama.so").exists():
        options = (*OPTIONS, f"-DCMAKE_C_FLAGS={' '.join(flags)}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}")
        run("cmake", "-S", str(fetch()), "-B", str(folder), *options)
        run("cmake", "--build", str(folder), "--target", "llama")
    return folder


if __name__ == "__main__":
    print(built(tuple(sys.argv[1:]) or INTEL))
