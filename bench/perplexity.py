"""A pass in fast mode against libllama, one core each: `python -m bench.perplexity [--weights=45000000] [--types=A,B]`.

A model of llama's shape is made and quantized by the release. Both compute the logits of all of 512 ids in one batch,
each in a process of its own that is kept to one core; loading and compiling are not counted. The release is asked as
its build --variant, as it is and with weights repacked, and without flash attention. Prints tokens a second and
ratios, and what resident memory the process has above the size of the file.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from bench.clock import best
from bench.made_model import made
from hifi_ref.mixtures.llama_quantize import file_types
from reference import quantizer

_WEIGHTS = flags.DEFINE_integer("weights", 45_000_000, "How many weights at least.", lower_bound=1)
_TYPES = flags.DEFINE_list("types", ["F16", "Q8_0", "Q4_K_M", "Q4_0"], "File types.")
_VARIANT = flags.DEFINE_string("variant", "zen4", "A build of the CPU back end that is quick on this machine.")

IDS, REPEAT = 512, 2


def ours(path: str) -> float:
    """Tokens a second of the fast mode."""
    from hifi_ref import models

    return IDS / best(lambda: models.logits(path, ids(), mode="fast"), REPEAT)


def releases(path: str, variant: str, repack: bool) -> float:
    """Tokens a second of libllama with the setting of the exact mode, or with weights repacked."""
    from reference import language_model

    with language_model.opened(language_model.declared(variant), path, IDS, repack=repack) as decode:
        return IDS / best(lambda: decode(ids()), REPEAT)


def ids() -> list[int]:
    return [1 + i % 29 for i in range(IDS)]


def child(what: str, path: str, *more: str) -> tuple[float, float]:
    """Tokens a second, and MiB of resident memory at most."""
    core = min(os.sched_getaffinity(0))
    words = ["taskset", "-c", str(core), sys.executable, "-m", "bench.perplexity", f"--child={what}", path, *more]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    speed, memory = done.stdout.split()
    return float(speed), float(memory)


_CHILD = flags.DEFINE_enum("child", None, ["ours", "release"], "For its own processes.")


def serve(what: str, path: str, variant: str = "", repack: str = "") -> None:
    speed = ours(path) if what == "ours" else releases(path, variant, bool(repack))
    print(speed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(arguments: list[str]) -> None:
    if _CHILD.value:
        serve(_CHILD.value, *arguments[1:])
        return
    with tempfile.TemporaryDirectory() as name:
        source, path = (str(Path(name) / f"{n}.gguf") for n in ("source", "model"))
        print(f"{made(Path(source), _WEIGHTS.value) / 1e6:.0f} M weights; tokens a second\n")
        others = [(variant, repack) for variant in (_VARIANT.value,) for repack in ("", "repacked")]
        head = ["type", "fast mode", *(f"{v} {r}".strip() + ", ratio" for v, r in others), "MiB above the file's"]
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for kind in _TYPES.value:
            if quantizer.quantize(source, path, file_types()[kind]).problem:
                raise RuntimeError(f"{kind}: the release does not quantize the model")
            speed, memory = child("ours", path)
            speeds = [child("release", path, variant, repack)[0] for variant, repack in others]
            cells = [f"{speed:.0f}", *(f"{s:.0f}, {speed / s:.2f}" for s in speeds)]
            print(f"| {kind} | {' | '.join(cells)} | {memory - os.path.getsize(path) / 2**20:.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
