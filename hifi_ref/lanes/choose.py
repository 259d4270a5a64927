"""Which lane does work on NumPy arrays where the caller names none: the one place that decides.

NumPy begins at once; the JAX lane is many times quicker, but first JAX itself must start and the operation be compiled.
Nobody knows how much work will follow, so it is the rule of one who rents skis until the rent has reached their price:

* Work goes to NumPy until what JAX would have saved in this process so far amounts to what starting it costs. That
  never takes more than twice as long as the best choice in hindsight.
* A second tensor of a million weights in the same format is taken for the beginning of a model, which has many more.
* Commands know their work beforehand and announce it. Theirs goes to the device that JAX takes by default, if that
  passes the canary, a GPU say; what a caller of the functions holds in memory stays with this machine's processor.

speeds.py holds what was measured; kept.py knows what earlier processes have compiled. Both lanes give the same bits.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable
from typing import NamedTuple

from hifi_ref.formats.builds import STRICT
from hifi_ref.lanes import kept
from hifi_ref.lanes.speeds import (
    AS_BUILT,
    BEGIN,
    BUILT_PIECE,
    CANARY,
    DECODED_PIECE,
    ENCODED_PIECE,
    JAX_START,
    LOAD,
    MATMUL,
    Speed,
    as_built,
    of_format,
)

# From so many weights on it is a tensor of a model, and after the second one so many more are expected.
TENSOR = 1 << 20
MORE_TENSORS = 64
# As many of the blocks that differ, where a command asks which build wrote them: there are such in other tensors too.
DIFFERING = 1 << 14
# Up to so many columns a CPU is quicker with one matrix-vector product after the other than with a matrix product.
FEW_COLUMNS = 6
# JAX's name for this machine's processor.
HERE = "cpu"


class Kind(NamedTuple):
    """Work that one compilation serves."""

    operation: str
    """"encode", "decode", "dot" or "matmul"."""
    name: str
    """The format's."""
    weighted: bool = False
    """Whether an encoder takes importance."""
    shape: tuple[int | str, ...] = ()
    """What else the compiled code is made for, where it does not serve all shapes."""
    profile: str = STRICT
    """As which build an encoder computes."""

    def __str__(self) -> str:
        build = "" if self.profile == STRICT else f" as {self.profile}"
        return f"{self.operation} {self.name}{' with importance' if self.weighted else ''}{build}"


_lock = threading.Lock()
# Of this process: kinds that go to JAX; what others would have saved there, and how many tensors; kinds announced.
_in_jax: set[Kind] = set()
_saved: dict[Kind, float] = {}
_tensors: dict[Kind, int] = {}
_announced: set[Kind] = set()
# The back end of JAX that announced work goes to, and who has worked since: (operation, lane).
_platform = HERE
_worked: set[tuple[str, str]] = set()
_refused = False


def lane(kind: Kind, n: int) -> str:
    """The lane, "numpy" or "jax", for n weights (of a matrix product: n multiplications) of NumPy arrays.

    A RuntimeWarning says once where JAX would be quicker but is not exact.
    """
    chosen = _lane(kind, n)
    _worked.add((kind.operation, chosen))
    return chosen


def platform() -> str:
    """The back end of JAX that work on NumPy arrays goes to."""
    return _platform


def workers(operation: str) -> tuple[str, ...]:
    """Who has done such work since it was announced: devices, and on each of them which lane."""
    lanes = sorted({lane for worked, lane in _worked if worked == operation})
    numpy = f"{HERE} (NumPy{', since no back end of JAX is exact here' if _refused else ''})"
    return tuple(f"{_device()} (JAX)" if lane == "jax" else numpy for lane in lanes)


def _device() -> str:
    """As JAX calls the first of the devices, cuda:0 say; the processor is one, however many JAX makes of it."""
    import jax

    return HERE if _platform == HERE else str(jax.local_devices(backend=_platform)[0])


def _lane(kind: Kind, n: int) -> str:
    in_numpy, in_jax = _seconds(kind, n)
    if in_jax >= in_numpy:
        return "numpy"
    with _lock:
        if kind in _in_jax:
            return "jax"
        gain = in_numpy - in_jax
        _saved[kind] = _saved.get(kind, 0.0) + gain
        large = n >= (TENSOR if kind.profile == STRICT else DIFFERING)
        _tensors[kind] = _tensors.get(kind, 0) + large
        if large and _tensors[kind] > 1 and kind not in _announced:
            gain *= MORE_TENSORS
        if max(_saved[kind], gain) < _starting(kind) or not jax_is_exact_or_warn():
            return "numpy"
        _in_jax.add(kind)
    kept.note({str(kind)})
    return "jax"


def announce(work: Iterable[tuple[str, bool, int]], profile: str = STRICT) -> float:
    """Tell what is going to be encoded, so that what is worth it is compiled at once; keep what is compiled on disk.

    Args:
        work: format's name, whether with importance, weights; once a tensor.
        profile: as which build.

    Returns:
        How many seconds everything may take.
    """
    global _platform, _refused
    kept.keep()
    better, in_numpy, seconds = _shared_out(work, profile)
    with _lock:
        _announced.update(in_numpy)
        _worked.clear()
        _platform, _refused = HERE, False
    if not better:
        return seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        _platform = _exact_default() if profile == STRICT else HERE
        _refused = _platform == HERE and not jax_is_exact_or_warn()
    if _refused:
        return sum(in_numpy.values())
    with _lock:
        _in_jax.update(better)
    if _platform == HERE:
        kept.note(map(str, better))
    return seconds


def expected(work: Iterable[tuple[str, bool, int]]) -> float:
    """How many seconds announced work would take on a processor like that of speeds.py; nothing is started for it."""
    return _shared_out(work)[2]


def _shared_out(
    work: Iterable[tuple[str, bool, int]], profile: str = STRICT
) -> tuple[set[Kind], dict[Kind, float], float]:
    """The kinds that are better in JAX, all kinds with their seconds in NumPy, and the seconds that all would take."""
    totals: dict[Kind, int] = {}
    for name, weighted, n in work:
        kind = Kind("encode", name, weighted, profile=profile)
        totals[kind] = totals.get(kind, 0) + n
    both = {kind: _seconds(kind, n) for kind, n in totals.items()}
    in_numpy = {kind: seconds for kind, (seconds, _) in both.items()}
    in_jax = {kind: seconds + _compiling(kind) for kind, (_, seconds) in both.items()}
    better = {kind for kind in totals if in_jax[kind] < in_numpy[kind]}
    start = _start()
    if sum(in_numpy[kind] - in_jax[kind] for kind in better) < start:
        return set(), in_numpy, sum(in_numpy.values())
    return better, in_numpy, start + sum((in_jax if kind in better else in_numpy)[kind] for kind in totals)


def _exact_default() -> str:
    """The back end that JAX takes by default, where it is exact; else the processor's."""
    try:
        import jax

        from hifi_ref.lanes import canary

        kept.configure()
        default = jax.default_backend()
        return HERE if default == HERE or canary.failures(default) else default
    except (ImportError, RuntimeError):
        return HERE


def jax_is_exact_or_warn() -> bool:
    """Whether JAX computes exactly on this machine's processor; a RuntimeWarning, once, where it does not."""
    try:
        from hifi_ref.lanes import canary

        kept.configure()
        return canary.is_exact_or_warn("cpu")
    except (ImportError, RuntimeError):
        # There is no JAX, or its user keeps it from the processor.
        return False


def _seconds(kind: Kind, n: int) -> tuple[float, float]:
    """What n weights take in NumPy, and in JAX once it is compiled: whole pieces, the last one filled up."""
    speed = _speed(kind)
    piece = {"encode": ENCODED_PIECE, "decode": DECODED_PIECE}.get(kind.operation, 1)
    begin = 0.0
    if kind.profile != STRICT:
        piece, begin = BUILT_PIECE, BEGIN if kind.name in AS_BUILT else 0.0
    return begin + n / speed.numpy / 1e6, -(-n // piece) * piece / speed.jax / 1e6


def _speed(kind: Kind) -> Speed:
    if kind.operation != "matmul":
        speed = of_format if kind.profile == STRICT else as_built
        return speed(f"{kind.operation}{' with importance' if kind.weighted else ''}", kind.name)
    return MATMUL._replace(numpy=of_format("dot", kind.name).numpy)


def _starting(kind: Kind) -> float:
    """Seconds until the first work of a kind can begin in JAX."""
    return _compiling(kind) + _start()


def _start() -> float:
    """Seconds until JAX is loaded and its canary has sung; whoever has kept anything compiled has kept that as well."""
    if _has_started():
        return 0.0
    return JAX_START + (0.0 if kept.compiled() else CANARY)


def _compiling(kind: Kind) -> float:
    if kind in _in_jax:
        return 0.0
    return LOAD if str(kind) in kept.compiled() else _speed(kind).compiling


def _has_started() -> bool:
    """Whether JAX is loaded and its canary has sung, for whatever reason."""
    canary = sys.modules.get("hifi_ref.lanes.canary")
    return canary is not None and canary.failures.cache_info().currsize > 0
