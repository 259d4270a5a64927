"""What the ground is worth that hifi_ref stands on: operation by back end, as measured: `python -m hifi_ref.ground`.

Every back end of jax on this machine computes a probe of all operations that the formats rely on; the bits are compared
with NumPy's. "exact" passes as it is; "by correction" passes once division or square root are done in whole numbers;
"refused" does not pass, and then neither the formats nor the kernels use that back end. Nothing is said of a back end
that is not here. Subnormal numbers stand apart, since most back ends flush them to zero: "flushed" refuses nothing,
because blocks that may meet one are sent to NumPy.

Options: --kernels=False leaves out the kernels, which take a minute to compile.

Exit 0: every back end that is here is exact, by itself or by correction. 1: an operation, or a kernel's product, is
refused on at least one. 2: usage. 3: an error of ours.
"""

from __future__ import annotations

import sys
import traceback

import numpy as np
from absl import app, flags

_KERNELS = flags.DEFINE_bool("kernels", True, "Try the Pallas kernels too.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        print(f"ground takes no argument, not even {argv[1]!r}", file=sys.stderr)
        sys.exit(2)
    try:
        refused = report(_platforms(), _KERNELS.value)
    except Exception:
        traceback.print_exc()
        print("an error of ours: please report the lines above", file=sys.stderr)
        sys.exit(3)
    sys.exit(refused)


def report(platforms: list[str], kernels: bool) -> bool:
    """Print the tables; whether anything is refused on a back end."""
    import jax

    print(f"jax {jax.__version__}, jaxlib {jax.lib.__version__}; " + ", ".join(str(d) for d in jax.local_devices()))
    found = {platform: judge(platform) for platform in platforms}
    print(table({platform: found[platform] | subnormals(platform) for platform in platforms}))
    if any("flushed" in subnormals(platform).values() for platform in platforms):
        print("Where subnormals are flushed, blocks that may meet one are sent to NumPy: bits do not change.")
    refused = any("refused" in column.values() for column in found.values())
    if not kernels:
        return refused
    print(kernel_table(platforms))
    return refused or any(wrong_kernels(platform) for platform in platforms)


def judge(platform: str) -> dict[str, str]:
    """Operation -> "exact", "by correction" or "refused"."""
    from hifi_ref import canary

    failed, corrected = canary.failures(platform), canary.corrections(platform)
    return {
        operation: "refused" if operation in failed else "by correction" if operation in corrected else "exact"
        for operation in canary.OPERATIONS
    }


def subnormals(platform: str) -> dict[str, str]:
    """Subnormal operands and results of a compiled product -> "kept" or "flushed"."""
    import jax

    device = jax.local_devices(backend=platform)[0]
    a, b = np.array([[2.0**-140, 2.0**-120], [2.0**20, 2.0**-20]], np.float32)
    operand, result = np.asarray(jax.jit(lambda a, b: a * b)(*jax.device_put((a, b), device)))
    return {
        "subnormal operand": "kept" if operand == np.float32(2.0**-120) else "flushed",
        "subnormal result": "kept" if result.view(np.uint32) == 1 << 9 else "flushed",
    }


def table(found: dict[str, dict[str, str]]) -> str:
    """One line an operation, one column a back end."""
    platforms = list(found)
    lines = [f"{'operation':18}" + "".join(f"{platform:>16}" for platform in platforms)]
    for operation in found[platforms[0]]:
        lines.append(f"{operation:18}" + "".join(f"{found[platform][operation]:>16}" for platform in platforms))
    return "\n".join(lines)


def kernel_table(platforms: list[str]) -> str:
    """One line a back end of kernels: which formats' products have the defined bits."""
    from hifi_ref.kernels import backends, canary

    lines = []
    for platform in platforms:
        backend = backends.OF_PLATFORM.get(platform)
        if backend is None:
            lines.append(f"kernels on {platform}: none")
            continue
        wrong = wrong_kernels(platform)
        right = [name for name in canary.FORMATS_TRIED if name not in wrong]
        lines.append(f"kernels, {backend}: exact for {' '.join(right) or 'none'}; refused: {' '.join(wrong) or 'none'}")
    return "\n".join(lines)


def wrong_kernels(platform: str) -> tuple[str, ...]:
    """The formats whose kernels are refused; none where a platform has no kernels."""
    from hifi_ref.kernels import backends, canary

    backend = backends.OF_PLATFORM.get(platform)
    return () if backend is None else canary.failures(backend)


def _platforms() -> list[str]:
    import jax

    found = {device.platform for device in jax.local_devices()} | {"cpu"}
    return sorted(found)


if __name__ == "__main__":
    app.run(main)
