"""How fast the sweep of Hyper-Quantization is beside the original's way: `python -m bench.sweep`.

The original's mathematics, said again in torch, one configuration after the other: codes, scales kept as they are
stored, weights back, its loss. It is spared the packing of bytes, which the original does besides. Of the
configurations every so many are timed; ours are all of them at once. Seconds of processors, torch on one thread, since
others may use the same cores, and threads that wait for one another would count. Needs torch.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from absl import app, flags

from hifi_ref.neighbours.hyper import Kind
from hifi_ref.sweep import hyper
from hifi_ref.sweep.losses import losses

_WEIGHTS = flags.DEFINE_integer("weights", 1 << 20, "So many gaussian weights.")
_EVERY = flags.DEFINE_integer("every", 61, "Every so many of the configurations go through torch.")
STORED = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def codes(x: torch.Tensor, kind: Kind) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Blocks [n, block] -> their codes, and the scale and perhaps min of each, not rounded."""
    if kind.symmetric:
        least, most = -(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1
        scale = x.gather(1, x.abs().argmax(dim=1, keepdim=True)) / least
        numbers, shifted = [scale], x
    else:
        least, most = 0, 2**kind.bits - 1
        low = x.amin(dim=1, keepdim=True)
        scale = (x.amax(dim=1, keepdim=True) - low) / most
        numbers, shifted = [scale, low], x - low
    inverse = torch.where(scale == 0, 0, 1 / scale)
    return (shifted * inverse).round().clamp(least, most).nan_to_num(0), [number.reshape(-1) for number in numbers]


def values(q: torch.Tensor, numbers: list[torch.Tensor]) -> torch.Tensor:
    y = q * numbers[0][:, None]
    return y if len(numbers) == 1 else y + numbers[1][:, None]


def kept(number: torch.Tensor, choice: hyper.Choice) -> torch.Tensor:
    """A scale or min as it is read back."""
    dtype = STORED[choice.scale_type]
    if choice.outer is None:
        return number.to(dtype).float()
    q, numbers = codes(number.reshape(-1, choice.outer.block_size), choice.outer)
    return values(q, [each.to(dtype).float() for each in numbers]).reshape(-1)


def loss(x: torch.Tensor, choice: hyper.Choice) -> float:
    """The original's as it is meant."""
    blocks = x.reshape(-1, choice.inner.block_size)
    q, numbers = codes(blocks, choice.inner)
    y = values(q, [kept(number, choice) for number in numbers])
    return float(((blocks - y).abs().mean(dim=1) / blocks.std(dim=1)).mean())


def seconds(run: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def main(_: Any) -> None:
    torch.set_num_threads(1)
    x = np.random.default_rng(0).standard_normal(_WEIGHTS.value).astype(np.float32)
    everything = [*hyper.choices(double=False), *hyper.choices(double=True)]
    wanted = {choice: i for i, choice in enumerate(everything)}
    some, t = everything[:: _EVERY.value], torch.from_numpy(x)
    chunks = [x[i : i + hyper.CHUNK] for i in range(0, len(x), hyper.CHUNK)]
    first, _ = seconds(lambda: hyper.sums(chunks[0], None, wanted))
    ours, sums = seconds(lambda: sum(hyper.sums(chunk, None, wanted) for chunk in chunks))
    loss(t, some[0])
    theirs, found = seconds(lambda: [loss(t, choice) for choice in some])
    apart = max(abs(a / losses(sums[wanted[choice]])["original"] - 1) for a, choice in zip(found, some, strict=True))
    each = theirs / len(some), ours / len(everything)
    print(f"{len(x)} weights, {len(everything)} configurations; {len(some)} of them through torch {torch.__version__}")
    print(f"torch {1e3 * each[0]:.2f} ms a configuration, the sweep {1e3 * each[1]:.3f}: {each[0] / each[1]:.1f} times")
    print(f"all of them: torch {each[0] * len(everything):.0f} s, the sweep {ours:.0f} s")
    print(f"a chunk of the sweep with compiling: {first:.0f} s")
    print(f"losses differ by {apart:.1e} at most")


if __name__ == "__main__":
    app.run(main)
