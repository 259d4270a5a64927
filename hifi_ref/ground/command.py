"""What the ground is worth that hifi_ref stands on: operation by back end, as measured: `python -m hifi_ref.ground`.

Every back end of jax on this machine computes a probe of all operations that the formats rely on; the bits are compared
with NumPy's. "exact" passes as it is; "by correction" passes once the operation is taken from the back end (canary.py);
"refused" does not pass, and then neither the formats nor the kernels use that back end. Nothing is said of a back end
that is not here. Subnormal numbers stand apart, since most back ends flush them to zero: "flushed" refuses nothing,
because blocks that may meet one are sent to NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import flags
from rich.text import Text

from hifi_ref.commands import command_line, terminal
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage, help_text

USAGE = Usage(
    "ground",
    "[flags]",
    "tell which operations of jax's back ends here are exact",
    "Tells of every back end of jax on this machine which operations are exact, which are corrected, and which are "
    "refused.",
    {
        FINE: "all is exact, by itself or by correction",
        FOUND: "an operation or a kernel's product is refused on a back end",
        USAGE_ERROR: "wrong usage",
        FAULT: "a fault of this program",
    },
)
# Of a result on a terminal.
COLOURS = {"exact": "green", "refused": "bold red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    return command_line.run("ground", _run, argv)


def _run(arguments: list[str]) -> int:
    values = command_line.flags_of_all()
    kernels = "leave out the Pallas kernels, which take a minute to compile"
    flags.DEFINE_boolean("kernels", True, kernels, flag_values=values)
    rest = command_line.parse(values, arguments)
    if values.help:
        command_line.show(help_text(USAGE, values))
        return FINE
    if rest:
        raise UsageError(f"no argument is taken, not even {rest[0]!r}")
    return FOUND if report(platforms_here(), values.kernels) else FINE


def report(platforms: list[str], kernels: bool) -> bool:
    """Print the tables; whether anything is refused on a back end."""
    import jax

    from hifi_ref.kernels import backends

    devices = ", ".join(str(device) for device in jax.local_devices())
    command_line.show(f"jax {jax.__version__}, jaxlib {jax.lib.__version__}; {devices}\n")
    found = {platform: judge(platform) for platform in platforms}
    results = {platform: found[platform] | subnormals(platform) for platform in platforms}
    command_line.show(table(results, terminal.has_colour()))
    if any("flushed" in subnormals(platform).values() for platform in platforms):
        message = "Where subnormals are flushed, blocks that may meet one are sent to NumPy: bits do not change."
        command_line.show(f"{message}\n")
    refused = any("refused" in column.values() for column in found.values())
    if not kernels:
        return refused
    command_line.show(kernel_table(platforms, terminal.has_colour()))
    here = [backend for backend, platform in backends.RUNS_ON.items() if platform in platforms]
    return refused or any(wrong_kernels(backend) for backend in here)


def judge(platform: str) -> dict[str, str]:
    """Operation -> "exact", "by correction" or "refused"."""
    from hifi_ref.lanes import canary

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


def table(found: dict[str, dict[str, str]], colour: bool = False) -> str:
    """One line per operation, one column per back end."""
    platforms = list(found)
    rows: list[tuple[str | Text, ...]] = [("operation", *platforms)]
    for operation in found[platforms[0]]:
        results = [found[platform][operation] for platform in platforms]
        rows.append((operation, *(Text(result, COLOURS.get(result, "")) for result in results)))
    return terminal.rendered([terminal.table(rows, right=range(1, len(rows[0])))], colour)


def kernel_table(platforms: list[str], colour: bool = False) -> str:
    """One line per back end of kernels: what was measured, or why nothing was. Interpreters belong to the CPU."""
    from hifi_ref.kernels import backends

    found = {
        backend: kernel_summary(backend) if platform in platforms else "not on this machine"
        for backend, platform in backends.RUNS_ON.items()
        if platform in platforms or platform != "cpu"
    } | {backend: f"not offered: {reason}" for backend, reason in backends.NOT_OFFERED.items()}
    return terminal.rendered([terminal.table([("kernels of", "result"), *found.items()])], colour)


def kernel_summary(backend: str) -> str:
    """For how many formats a back end's kernel has the defined bits, and for which it is refused."""
    tried, wrong = len(formats_tried(backend)), wrong_kernels(backend)
    refused = f"; refused: {' '.join(wrong)}" if wrong else ""
    return f"exact for {tried - len(wrong)} of {tried} formats tried{refused}"


def formats_tried(backend: str) -> tuple[str, ...]:
    """All that have a kernel; in an interpreter, which no product takes, one for every way of adding."""
    from hifi_ref.kernels import backends
    from hifi_ref.kernels.plans import PLANS

    if backends.RUNS_ON[backend] != "cpu":
        return tuple(PLANS)
    return tuple({(plan.sums, plan.add): name for name, plan in reversed(PLANS.items())}.values())[::-1]


def wrong_kernels(backend: str) -> tuple[str, ...]:
    """The formats tried whose kernels are refused on a back end of kernels.backends, which is on this machine."""
    from hifi_ref.kernels import canary

    return canary.failures(backend, formats_tried(backend))


def platforms_here() -> list[str]:
    """The back ends of jax on this machine; the CPU always is one."""
    import jax

    found = {device.platform for device in jax.local_devices()} | {"cpu"}
    return sorted(found)
