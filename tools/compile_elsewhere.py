"""Compile every kernel, or encoder, for hardware that is not here: `python -m tools.compile_elsewhere --targets=v5e`.

TPU targets need `pip install libtpu`; sm_90 needs, in the version of jax, `pip install --no-deps jax-cuda12-plugin
jax-cuda12-pjrt nvidia-cuda-nvcc-cu12 triton` (triton for its disassembler only). Nothing is run: a kernel that compiles
here may still be wrong there, which is what tools/on_a_card.py is for. For sm_90 the machine code of the whole product
is searched for fused multiply-adds of float32 (FFMA), of which an exact kernel may have none.

With --encoders the formats' encoders are compiled instead, without importance and with it, division and square roots
in whole numbers: then the machine code may have no approximate reciprocal or root (MUFU) either. They take minutes.
--weights says for how large a tensor; the memory that it takes is printed.

Exit 0: all compiled, nothing fused. 1: not so. 2: usage.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DUMP = Path(tempfile.mkdtemp(prefix="hifi_ref_compiled_"))
DUMPED = f"--xla_dump_to={DUMP} --xla_gpu_dump_llvmir=true --xla_dump_emitter_re=.*"
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DUMPED}"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, Mesh, SingleDeviceSharding, use_abstract_mesh  # noqa: E402

from hifi_ref.formats import FORMATS  # noqa: E402
from hifi_ref.kernels import split, vec_dot  # noqa: E402
from hifi_ref.kernels.plans import PLANS  # noqa: E402
from hifi_ref.lanes import canary  # noqa: E402

_TARGETS = flags.DEFINE_list("targets", ["v5e", "v6e", "tpu7x", "sm_90"], "What to compile for.")
_FORMATS = flags.DEFINE_list("formats", [], "Formats; default: all that have a kernel, or an encoder.")
_ENCODERS = flags.DEFINE_bool("encoders", False, "Compile encoders, not kernels.")
_WEIGHTS = flags.DEFINE_integer("weights", 1 << 20, "Weights of the tensor that an encoder is compiled for.")

TPU = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1"}
# The card's own description, as XLA wants it: an H200.
H200 = """
gpu_device_info { cuda_compute_capability { major: 9 minor: 0 } threads_per_block_limit: 1024 threads_per_warp: 32
shared_memory_per_block: 49152 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132
fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
memory_bandwidth: 4800000000000 l2_cache_size: 62914560 clock_rate_ghz: 1.98 device_memory_size: 150000000000
shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA"
"""
ROWS, COLUMNS, WEIGHTS = 1024, 2, 1024
# Weights in a row of an encoder's tensor
ROW = 4096


def main(argv: list[str]) -> None:
    offered = [name for name in FORMATS if FORMATS[name].encode] if _ENCODERS.value else sorted(PLANS)
    names = _FORMATS.value or offered
    unknown = [t for t in _TARGETS.value if t not in (*TPU, "sm_90")] + [n for n in names if n not in offered]
    if len(argv) > 1 or unknown:
        print(f"cannot compile for or with {', '.join(argv[1:] + unknown)}", file=sys.stderr)
        sys.exit(2)
    failed = 0
    for target in _TARGETS.value:
        for name in names:
            for title, compile_it in _works(name).items():
                start = time.perf_counter()
                try:
                    result = compile_it(target, name)
                except Exception as e:  # whatever a compiler raises is the finding
                    result = f"FAILED {' '.join(str(e).split())[:300]}"
                failed += not result.startswith("compiled")
                print(f"{target:6} {title:8} {time.perf_counter() - start:5.1f} s  {result}", flush=True)
    sys.exit(failed > 0)


def _works(name: str) -> dict[str, Callable[[str, str], str]]:
    if not _ENCODERS.value:
        return {name: compile_for}
    found = {} if FORMATS[name].requires_weights else {name: partial(compile_encoder, weighted=False)}
    return found | {f"{name} with importance": partial(compile_encoder, weighted=True)}


def compile_for(target: str, name: str) -> str:
    f = FORMATS[name]
    partner = FORMATS[f.dot_with]

    def product(w, a):
        weights = split.matrix(f, w.reshape(len(w), -1, f.type_size))
        activations = split.activations(partner.name, a.reshape(len(a), -1, partner.type_size))
        return vec_dot.product(PLANS[name], weights, activations, "tpu" if target in TPU else "triton")

    shapes = [
        jax.ShapeDtypeStruct((count, WEIGHTS // x.block_size * x.type_size), np.uint8)
        for count, x in ((ROWS, f), (COLUMNS, partner))
    ]
    return _compile(target, product, shapes)[0]


def compile_encoder(target: str, name: str, weighted: bool) -> str:
    f = FORMATS[name]
    blocks = ROW // f.block_size
    rows = max(1, _WEIGHTS.value // ROW)
    x = (rows, blocks, f.block_size) if weighted else (1, rows * blocks, f.block_size)
    importance = jax.ShapeDtypeStruct((blocks, f.block_size), np.float32) if weighted else None
    encode = canary.tracing(f.encode, frozenset({"division", "square root"}), "tpu" if target in TPU else "gpu")
    result, memory = _compile(target, encode, [jax.ShapeDtypeStruct(x, np.float32), importance], r"FFMA|MUFU\.\w+")
    return f"{result}; {memory.temp_size_in_bytes / 2**20:.0f} MiB besides operands and result"


def _compile(target: str, work: Callable, shapes: list, forbidden: str = "FFMA") -> tuple[str, Any]:
    """What came of it, and what memory it takes. ``forbidden``: a pattern that no operation of a GPU's code may fit."""
    platform = "tpu" if target in TPU else "cuda"
    device = _device(target)
    sharding = SingleDeviceSharding(device)
    if platform == "tpu":
        mesh = Mesh(np.array([device]), ("x",)).abstract_mesh
    else:
        described = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
        mesh = AbstractMesh((1,), ("x",), abstract_device=described)
    with use_abstract_mesh(mesh):
        traced = jax.jit(work, in_shardings=sharding, out_shardings=sharding).trace(*shapes)
        compiled = traced.lower(lowering_platforms=(platform,)).compile()
    # Some files of that name hold what came before PTX.
    sources = [file for file in DUMP.glob("*.ptx") if ".version" in file.read_text()]
    result = "compiled" if platform == "tpu" else _fused(sources, forbidden)
    shutil.rmtree(DUMP)
    DUMP.mkdir()
    return result, compiled.memory_analysis()


def _device(target: str):
    if target in TPU:
        return topologies.get_topology_desc(TPU[target], "tpu").devices[0]
    return topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1").devices[0]


def _fused(sources: list[Path], forbidden: str) -> str:
    """Counts float32 operations in the machine code of every kernel of the work, assembled from its PTX."""
    import nvidia.cuda_nvcc
    import triton

    assembler = Path(nvidia.cuda_nvcc.__path__[0]) / "bin" / "ptxas"
    disassembler = Path(triton.__path__[0]) / "backends" / "nvidia" / "bin" / "nvdisasm"
    if not sources:
        return "FAILED no PTX was left"
    listing = ""
    for source in sources:
        code = source.with_suffix(".cubin")
        subprocess.run([assembler, "-arch=sm_90a", source, "-o", code], check=True)
        listing += subprocess.run([disassembler, code], check=True, capture_output=True, text=True).stdout
    fused, products, sums = (len(re.findall(rf"\b{word}\b", listing)) for word in ("FFMA", "FMUL", "FADD"))
    # Of binary64 these are where an exact quotient begins, not where one ends.
    wrong = sorted(set(re.findall(rf"\b(?:{forbidden})\b", listing)) - {"MUFU.RCP64H", "MUFU.RSQ64H"})
    found = f"{len(sources)} PTX: {fused} FFMA, {products} FMUL, {sums} FADD"
    return f"compiled, {found}" if not wrong else f"FORBIDDEN {' '.join(wrong)} in {found}"


if __name__ == "__main__":
    app.run(main)
