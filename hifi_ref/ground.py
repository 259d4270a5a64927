"""What the ground is worth that hifi_ref stands on: operation by back end, as measured: `python -m hifi_ref.ground`.

Every back end of jax on this machine computes a probe of all operations that the formats rely on; the bits are compared
with NumPy's. "exact" passes as it is; "by correction" passes once division or square root are done in whole numbers;
"refused" does not pass, and then neither the formats nor the kernels use that back end. Nothing is said of a back end
that is not here.

Options: --kernels=False leaves out the kernels, which take a minute to compile.

Exit 0: at least one back end is exact, by itself or by correction. 1: none is. 2: usage.
"""

from __future__ import annotations

import sys

from absl import app, flags

_KERNELS = flags.DEFINE_bool("kernels", True, "Try the Pallas kernels too.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        print(f"ground takes no argument, not even {argv[1]!r}", file=sys.stderr)
        sys.exit(2)
    import jax

    from hifi_ref import jax_lane

    platforms = _platforms()
    print(f"jax {jax.__version__}, jaxlib {jax.lib.__version__}; " + ", ".join(str(d) for d in jax.local_devices()))
    print(table({platform: judge(platform) for platform in platforms}))
    if _KERNELS.value:
        print(kernel_table(platforms))
    sys.exit(all(jax_lane.failures(platform) for platform in platforms))


def judge(platform: str) -> dict[str, str]:
    """Operation -> "exact", "by correction" or "refused"."""
    from hifi_ref import jax_lane

    failed, corrected = jax_lane.failures(platform), jax_lane.corrections(platform)
    return {
        operation: "refused" if operation in failed else "by correction" if operation in corrected else "exact"
        for operation in jax_lane.OPERATIONS
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
        wrong = canary.failures(backend)
        right = [name for name in canary.FORMATS_TRIED if name not in wrong]
        lines.append(f"kernels, {backend}: exact for {' '.join(right) or 'none'}; refused: {' '.join(wrong) or 'none'}")
    return "\n".join(lines)


def _platforms() -> list[str]:
    import jax

    found = {device.platform for device in jax.local_devices()} | {"cpu"}
    return sorted(found)


if __name__ == "__main__":
    app.run(main)
