"""Is this GGUF file sound? `python -m hifi_ref.check FILE` looks at its structure and at every block's bytes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from absl import flags

from hifi_ref.findings import CODES, Finding, Findings, code_table
from hifi_ref.gguf_file import TENSOR_TYPES, Gguf, GgufError, Tensor, map_file, printable, scan
from hifi_ref.payload import check_payload

SCHEMA = "hifi_ref.check/1"
SOUND, FOUND, USAGE, FAULT = 0, 1, 2, 3

# From this size on a terminal sees a progress bar.
LONG_FILE = 256 << 20
# Findings of one code that are printed; the JSON holds more.
SHOWN = 5

USAGE_TEXT = """\
usage: python -m hifi_ref.check FILE.gguf [flags]

Looks at a GGUF file's structure and at every block of its tensors, and tells what is wrong with it.

flags:
  --json[=FILE]  write the report as JSON, to FILE or in place of the text
  --quiet        print the findings and the verdict, without the tables
  --debug        after a fault of this program, print where it happened
  --help         print this text

exit codes: 0 sound, 1 findings, 2 wrong usage or no GGUF file, 3 a fault of this program

finding codes (an error means a broken file, a warning one that no reference tool writes; both exit with 1):
"""

# general.file_type: its name, and the types that the reference quantizer may give most weights of such a file.
# The default type comes first.
FILE_TYPES: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("F32", ("F32",)),
    1: ("F16", ("F16", "F32")),
    2: ("Q4_0", ("Q4_0", "Q4_1")),
    3: ("Q4_1", ("Q4_1",)),
    7: ("Q8_0", ("Q8_0",)),
    8: ("Q5_0", ("Q5_0", "Q5_1")),
    9: ("Q5_1", ("Q5_1",)),
    10: ("Q2_K", ("Q2_K", "Q3_K", "Q4_K", "Q5_K")),
    11: ("Q3_K_S", ("Q3_K", "Q4_K", "Q5_K")),
    12: ("Q3_K_M", ("Q3_K", "Q4_K", "Q5_K")),
    13: ("Q3_K_L", ("Q3_K", "Q4_K", "Q5_K")),
    14: ("Q4_K_S", ("Q4_K", "Q5_K")),
    15: ("Q4_K_M", ("Q4_K", "Q5_K", "Q6_K")),
    16: ("Q5_K_S", ("Q5_K",)),
    17: ("Q5_K_M", ("Q5_K", "Q6_K")),
    18: ("Q6_K", ("Q6_K",)),
    19: ("IQ2_XXS", ("IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    20: ("IQ2_XS", ("IQ2_XS", "Q2_K", "Q4_K", "Q5_K")),
    21: ("Q2_K_S", ("Q2_K", "Q3_K", "Q4_K")),
    22: ("IQ3_XS", ("IQ3_S", "IQ3_XXS", "Q4_K", "Q5_K")),
    23: ("IQ3_XXS", ("IQ3_XXS", "IQ2_S", "IQ3_S", "Q3_K", "Q4_K", "Q5_K")),
    24: ("IQ1_S", ("IQ1_S", "IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    25: ("IQ4_NL", ("IQ4_NL", "Q5_K")),
    26: ("IQ3_S", ("IQ3_S", "Q4_K", "Q5_K")),
    27: ("IQ3_M", ("IQ3_S", "Q4_K", "Q5_K")),
    28: ("IQ2_S", ("IQ2_XS", "IQ3_S", "Q4_K", "Q5_K")),
    29: ("IQ2_M", ("IQ2_S", "IQ3_S", "Q4_K", "Q5_K")),
    30: ("IQ4_XS", ("IQ4_XS", "Q5_K")),
    31: ("IQ1_M", ("IQ1_M", "IQ2_XXS", "Q2_K", "Q4_K", "Q5_K")),
    32: ("BF16", ("BF16", "F16", "F32")),
    36: ("TQ1_0", ("TQ1_0",)),
    37: ("TQ2_0", ("TQ2_0",)),
    38: ("MXFP4_MOE", ("MXFP4", "Q8_0", "BF16", "F16")),
    39: ("NVFP4", ("NVFP4", "BF16", "F16")),
    40: ("Q1_0", ("Q1_0",)),
    41: ("Q2_0", ("Q2_0",)),
}
# These tensors are given types of their own.
OWN_TYPES = {"token_embd.weight", "per_layer_token_embd.weight", "output.weight"}
# Set in general.file_type where a reader has guessed it.
GUESSED = 1024


@dataclass
class Report:
    """What `check_file` found. The file is sound when ``findings`` has no entry."""

    path: str
    size: int
    gguf: Gguf
    findings: Findings

    @property
    def sound(self) -> bool:
        return not self.findings.counts


def check_file(path: str | os.PathLike[str], progress: Callable[[int], object] = lambda nbytes: None) -> Report:
    """Check a file. Raises OSError, or GgufError where it is no GGUF; everything else is a finding.

    ``progress`` is told the bytes of tensor data as they are done.
    """
    data = map_file(path)
    findings = Findings()
    gguf = scan(data, findings)
    check_file_type(gguf, findings)
    for tensor in gguf.tensors:
        if tensor.readable:
            check_payload(gguf, tensor, findings, progress)
    return Report(os.fspath(path), len(data), gguf, findings)


def check_file_type(gguf: Gguf, findings: Findings) -> None:
    """general.file_type must name a type that explains what most of the weights are stored as."""
    value = gguf.metadata.get("general.file_type")
    if value is None or gguf.data_start is None:
        return
    if value.kind != "u32" or value.count is not None:
        told = f"general.file_type, at byte {value.start}, is of kind {value.kind}, not one u32"
        findings.add(Finding("G021", told, offset=value.start))
        return
    number = value.scalar & ~GUESSED
    if number not in FILE_TYPES:
        told = f"general.file_type, at byte {value.start}, is {value.scalar}, which stands for no file type in use"
        findings.add(Finding("G021", told, offset=value.start))
        return
    name, expected = FILE_TYPES[number]
    default = next(t for t in TENSOR_TYPES.values() if t.name == expected[0])
    weights: Counter[str] = Counter()
    for tensor in gguf.tensors:
        # One-dimensional tensors stay as they are; rows that the default type cannot hold take another.
        fits = len(tensor.shape) > 1 and tensor.shape[0] % default.block_size == 0
        if tensor.nbytes and fits and tensor.name not in OWN_TYPES:
            weights[tensor.type.name] += tensor.elements
    if not weights:
        return
    (most, n), total = weights.most_common(1)[0], weights.total()
    if most not in expected:
        told = f"general.file_type is {number} ({name}), but {n / total:.0%} of the weights in matrices are {most}"
        findings.add(Finding("G021", told, offset=value.start))


def to_json(report: Report) -> dict[str, object]:
    """The report as JSON's types."""
    gguf = report.gguf
    number = _file_type(gguf)
    return {
        "schema": SCHEMA,
        "path": report.path,
        "size": report.size,
        "sound": report.sound,
        "version": gguf.version,
        "byte_order": "little" if gguf.order == "<" else "big",
        "alignment": gguf.alignment,
        "metadata_entries": len(gguf.metadata),
        "file_type": None if number is None else {"number": number, "name": _file_type_name(number)},
        "counts": dict(sorted(report.findings.counts.items())),
        "findings": [{"severity": f.severity, "title": CODES[f.code].title, **asdict(f)} for f in report.findings.kept],
        "types": {name: _totals(group) for name, group in _by_type(gguf.tensors)},
        "totals": _totals(gguf.tensors),
        "tensors": [
            {
                "name": t.name,
                "type": t.type_name,
                "shape": list(t.shape),
                "offset": t.start,
                "bytes": t.nbytes,
                "blocks": t.blocks,
                "bits_per_weight": _bits_per_weight(t),
                "findings": t.codes,
            }
            for t in gguf.tensors
        ],
    }


def to_text(report: Report, quiet: bool = False) -> str:
    """The report as text: the file, a line a tensor, the types, the findings and the verdict."""
    lines = [_headline(report)]
    if not quiet and report.gguf.tensors:
        rows = [("tensor", "type", "shape", "bits/weight", "blocks", "findings")]
        for t in report.gguf.tensors:
            bits = _bits_per_weight(t)
            shape = " x ".join(map(str, t.shape)) or "1"
            told = (t.name, t.type_name, shape, "" if bits is None else f"{bits:.4g}", f"{t.blocks or ''}")
            rows.append((*told, " ".join(t.codes) or "-"))
        lines += ["", *_table(rows, right=(3, 4))]
        rows = [("type", "tensors", "weights", "bytes", "bits/weight")]
        for name, group in [*_by_type(report.gguf.tensors), ("all", report.gguf.tensors)]:
            total = _totals(group)
            bits = total["bits_per_weight"]
            numbers = (total["tensors"], total["elements"], total["bytes"])
            rows.append((name, *map(str, numbers), "" if bits is None else f"{bits:.4g}"))
        lines += ["", *_table(rows, right=(1, 2, 3, 4))]
    return "\n".join([*lines, "", *_verdict(report.findings)]) + "\n"


def _headline(report: Report) -> str:
    gguf = report.gguf
    number = _file_type(gguf)
    parts = [
        f"GGUF v{gguf.version}",
        "little-endian" if gguf.order == "<" else "big-endian",
        f"{report.size} bytes",
        f"{len(gguf.metadata)} metadata entries",
        f"{len(gguf.tensors)} tensors",
        *([] if number is None else [f"file type {_file_type_name(number) or number}"]),
    ]
    return f"{printable(report.path)}: {', '.join(parts)}"


def _verdict(findings: Findings) -> list[str]:
    if not findings.counts:
        return ["sound: no findings"]
    lines = []
    for code, count in sorted(findings.counts.items()):
        entry = CODES[code]
        shown = [finding for finding in findings.kept if finding.code == code][:SHOWN]
        lines.append(f"{entry.severity} {code} {entry.title}. {entry.means}")
        lines += [f"  {finding.message}" for finding in shown]
        if count > len(shown):
            lines.append(f"  and {count - len(shown)} more")
        lines += [f"  What to do: {entry.advice}", ""]
    by_severity: Counter[str] = Counter()
    for code, count in findings.counts.items():
        by_severity[CODES[code].severity] += count
    told = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in sorted(by_severity.items())]
    return [*lines, f"not sound: {' and '.join(told)}"]


def _file_type(gguf: Gguf) -> int | None:
    value = gguf.metadata.get("general.file_type")
    return value.scalar if value is not None and value.kind == "u32" else None


def _file_type_name(number: int) -> str | None:
    known = FILE_TYPES.get(number & ~GUESSED)
    return known[0] if known else None


def _bits_per_weight(tensor: Tensor) -> float | None:
    return 8 * tensor.type.type_size / tensor.type.block_size if tensor.type else None


def _by_type(tensors: Sequence[Tensor]) -> Iterable[tuple[str, list[Tensor]]]:
    """Tensors by type, the type with most bytes first."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.type_name, []).append(tensor)
    return sorted(groups.items(), key=lambda item: -sum(t.nbytes or 0 for t in item[1]))


def _totals(tensors: Sequence[Tensor]) -> dict[str, int | float | None]:
    """Sums over the tensors whose size is known."""
    known = [t for t in tensors if t.nbytes is not None]
    elements, nbytes = sum(t.elements for t in known), sum(t.nbytes for t in known)
    bits = round(8 * nbytes / elements, 4) if elements else None
    return {"tensors": len(tensors), "elements": elements, "bytes": nbytes, "bits_per_weight": bits}


def _table(rows: list[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(padded).rstrip())
    return lines


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole file or none: a temporary file beside it takes its place. Raises OSError."""
    target = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(text)
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flag_values() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("json", None, "write JSON to this file, - for standard output", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "print no tables", flag_values=values)
    flags.DEFINE_boolean("debug", False, "print where a fault happened", flag_values=values)
    flags.DEFINE_boolean("help", False, "print the usage", short_name="h", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, sys.argv's where None, without a program name; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except Exception as fault:
        if "--debug" in arguments:
            traceback.print_exc()
        told = f"{type(fault).__name__}: {fault}".splitlines()[0]
        return _fail(FAULT, f"a fault of hifi_ref itself ({told}); please report it, with the output of --debug")


def _run(arguments: list[str]) -> int:
    values = _flag_values()
    try:
        # absl's string flags would take the file's name as the value of a bare --json.
        rest = values(["check", *("--json=-" if a == "--json" else a for a in arguments)])[1:]
    except flags.Error as error:
        return _fail(USAGE, f"{' '.join(str(error).split())} (--help tells the usage)")
    if values.help:
        _write(f"{USAGE_TEXT}{code_table()}\n")
        return SOUND
    if len(rest) != 1:
        return _fail(USAGE, f"one FILE is needed, {len(rest)} are given (--help tells the usage)")
    path = rest[0]
    try:
        report = _check_with_progress(path)
    except GgufError as error:
        return _fail(USAGE, str(error))
    except OSError as error:
        return _fail(USAGE, f"cannot read {printable(path)}: {error.strerror or error}")
    if values.json is not None:
        text = json.dumps(to_json(report), indent=1) + "\n"
        if values.json == "-":
            _write(text)
        else:
            try:
                write_atomically(values.json, text)
            except OSError as error:
                return _fail(USAGE, f"cannot write {printable(values.json)}: {error.strerror}")
    if values.json != "-":
        _write(to_text(report, values.quiet))
    return SOUND if report.sound else FOUND


def _check_with_progress(path: str) -> Report:
    if not sys.stderr.isatty() or not os.path.isfile(path) or os.path.getsize(path) < LONG_FILE:
        return check_file(path)
    from tqdm import tqdm

    with tqdm(total=os.path.getsize(path), unit="B", unit_scale=True, leave=False) as bar:
        return check_file(path, bar.update)


def _write(text: str) -> None:
    """To standard output, with an escape for what its encoding lacks: names may hold any character."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as `head` does: the exit code still tells. Nothing must be left for the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(code: int, message: str) -> int:
    print(f"hifi_ref.check: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
