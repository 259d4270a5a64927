"""Damaged GGUF files by the thousand, the same ones for the same seed; and small ones built from nothing.

`python -m tests.hostile FILE.gguf COUNT [SEED]` runs `check` in this process over COUNT mutants of a file and sums up.
"""

from __future__ import annotations

import contextlib
import io
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hifi_ref.check import command as check

SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
EXTREMES = (0, 1, 2, 3, 7, 255, 2**16, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Spot:
    """A structural number of a file: where it is, its size in bytes, and what it counts."""

    at: int
    size: int
    role: str


@dataclass(frozen=True)
class Mutant:
    """A damaged file. ``strict`` says that no reader may take it for sound."""

    data: bytes
    how: str
    strict: bool


def build(
    tensors: Sequence[tuple[str, int, Sequence[int], bytes]],
    metadata: Sequence[tuple[str, int, object]] = (),
    order: str = "<",
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A GGUF file of tensors (name, type id, shape with the row length first, bytes) and metadata (key, kind, value).

    A value is bytes for a string, a list for an array of u32, else a number that kind 4 (u32) or 7 (bool) can hold.
    """

    def text(raw: bytes) -> bytes:
        return struct.pack(order + "Q", len(raw)) + raw

    out = b"GGUF" + struct.pack(order + "IQQ", version, len(tensors), len(metadata))
    for key, kind, value in metadata:
        out += text(key.encode()) + struct.pack(order + "I", kind)
        if kind == STRING:
            out += text(value)
        elif kind == ARRAY:
            out += struct.pack(f"{order}IQ{len(value)}I", 4, len(value), *value)
        else:
            out += struct.pack(order + ("B" if kind == 7 else "I"), value)
    offset = 0
    for name, type_id, shape, data in tensors:
        out += text(name.encode()) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, type_id, offset)
        offset += -(-len(data) // alignment) * alignment
    for data in (b"", *(data for _, _, _, data in tensors)):
        out += data
        out += bytes(-len(out) % alignment)
    return out


def spots(data: bytes) -> list[Spot]:
    """Every structural number of a sound little-endian file, in file order."""
    found: list[Spot] = []
    at = 0

    def number(size: int, role: str) -> int:
        nonlocal at
        found.append(Spot(at, size, role))
        at += size
        return int.from_bytes(data[at - size : at], "little")

    def text(role: str) -> None:
        nonlocal at
        length = number(8, role)
        at += length

    number(4, "magic")
    number(4, "version")
    n_tensors, n_metadata = number(8, "tensor count"), number(8, "metadata count")
    for _ in range(n_metadata):
        text("key length")
        kind = number(4, "kind")
        if kind == ARRAY:
            kind, count = number(4, "item kind"), number(8, "item count")
            if kind == STRING:
                for _ in range(count):
                    text("item length")
            else:
                at += count * SCALAR_BYTES[kind]
        elif kind == STRING:
            text("string length")
        else:
            at += SCALAR_BYTES[kind]
    for _ in range(n_tensors):
        text("name length")
        for _ in range(number(4, "dimensions")):
            number(8, "dimension")
        number(4, "type")
        number(8, "offset")
    return found


def mutants(data: bytes, count: int, seed: int = 0) -> Iterator[Mutant]:
    """That many damaged versions of a sound little-endian file."""
    rng = random.Random(seed)
    places = spots(data)
    # A vocabulary has hundreds of lengths: choose a role first, so that the others get their share.
    roles: dict[str, list[Spot]] = {}
    for place in places:
        roles.setdefault(place.role, []).append(place)
    header = places[-1].at + places[-1].size
    for _ in range(count):
        kind = rng.choice(("number", "number", "number", "bit", "truncate", "flip header", "flip payload", "storm"))
        if kind == "truncate":
            stop = rng.choice((rng.randrange(len(data)), rng.randrange(header), rng.choice(places).at))
            yield Mutant(data[:stop], f"cut at byte {stop}", True)
            continue
        damaged = bytearray(data)
        if kind in ("number", "bit"):
            spot = rng.choice(roles[rng.choice(list(roles))])
            old = int.from_bytes(data[spot.at : spot.at + spot.size], "little")
            extreme = rng.choice((*EXTREMES, old + 1, old - 1, len(data), len(data) - spot.at))
            new = (extreme if kind == "number" else old ^ 1 << rng.randrange(8 * spot.size)) % (1 << 8 * spot.size)
            damaged[spot.at : spot.at + spot.size] = new.to_bytes(spot.size, "little")
            yield Mutant(
                bytes(damaged), f"{spot.role} at byte {spot.at}: {old} -> {new}", _must_show(spot.role, old, new)
            )
            continue
        if kind == "storm":
            flips = [rng.randrange(header) for _ in range(rng.randrange(2, 200))]
        else:
            flips = [rng.randrange(header) if kind == "flip header" else rng.randrange(header, len(data))]
        for at in flips:
            damaged[at] ^= 1 << rng.randrange(8)
        yield Mutant(bytes(damaged), f"{kind} at {flips[:3]}", False)


def _must_show(role: str, old: int, new: int) -> bool:
    """Whether a changed number breaks the file: another type of the same size, say, does not."""
    if old == new or role == "version" and new == 2:
        return False
    if role in ("kind", "item kind"):
        return SCALAR_BYTES.get(old, 0) != SCALAR_BYTES.get(new, -1)
    if role == "type":
        types = check.TENSOR_TYPES
        return new not in types or _density(types[old]) != _density(types[new])
    return True


def _density(kind: tuple[str, int, int]) -> float:
    return kind[2] / kind[1]


def run_check(path: Path | str, *flags: str) -> tuple[int, str, str]:
    """`check`'s main in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = check.main([str(path), *flags])
    return code, out.getvalue(), err.getvalue()


def complaints(mutant: Mutant, code: int, err: str, seconds: float) -> list[str]:
    """What is wrong with the way `check` ended on a mutant."""
    wrong = []
    if code not in ((1, 2) if mutant.strict else (0, 1, 2)):
        wrong.append(f"exit code {code}")
    if "Traceback" in err or err.count("\n") > 1:
        wrong.append(f"said {err!r}")
    if seconds > 5:
        wrong.append(f"took {seconds:.1f} s")
    return [f"{mutant.how}: {fault}" for fault in wrong]


def main() -> int:
    data = Path(sys.argv[1]).read_bytes()
    count, seed = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    codes: Counter[int] = Counter()
    strict, slowest, wrong = 0, 0.0, []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "mutant.gguf"
        for mutant in mutants(data, count, seed):
            path.write_bytes(mutant.data)
            start = time.perf_counter()
            code, _, err = run_check(path)
            seconds = time.perf_counter() - start
            codes[code] += 1
            strict += mutant.strict
            slowest = max(slowest, seconds)
            wrong += complaints(mutant, code, err, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} mutants, {strict} of them strict; exit codes {dict(sorted(codes.items()))}")
    print(f"slowest {slowest:.3f} s, peak memory {peak:.0f} MiB, {len(wrong)} complaints")
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
